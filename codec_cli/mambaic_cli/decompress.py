"""``mambaic decompress``"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from mambaic.container.fields import MAX_PIXELS
from mambaic.errors import OutputError
from mambaic.imaging.output_formats import FORMATS
from mambaic.imaging.suffixes import MBIC_SUFFIX
from mambaic_cli.batch import Task, run_jobs
from mambaic_cli.console import read_stdin, write_stdout
from mambaic_cli.device import device_option
from mambaic_cli.inputs import GivenPath, read_file
from mambaic_cli.jobs import check_target, name_of, plan_jobs
from mambaic_cli.streams import warn


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=GivenPath())
@click.option("-o", "--out", type=GivenPath(), help="Output file or folder (DIR/); - is stdout.")
@click.option(
    "--format",
    "suffix",
    type=click.Choice(sorted(FORMATS)),
    help="Image format [default: by -o, else png].",
)
@click.option("--model", help="Checkpoint folder, for files not made with shipped weights.")
@device_option
@click.option("--strip", is_flag=True, help="Leave out ICC, EXIF and XMP.")
@click.option("--force", is_flag=True, help="Replace existing files.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Files at a time.",
)
@click.option("--max-pixels", type=click.IntRange(min=1), default=MAX_PIXELS, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file on stdout.")
@click.option("--quiet", is_flag=True)
def command(inputs: tuple[str, ...], out: str | None, **given: Any) -> int:
    """Turn .mbic files back into images. IN are files, folders, globs, or - for stdin."""
    suffix = given["suffix"] or "png"
    jobs = plan_jobs(inputs, out, suffixes={MBIC_SUFFIX}, new_suffix=f".{suffix}")
    return run_jobs(
        jobs,
        lambda task: _decompress(task, given),
        line=lambda r: f"{r['output']}: {r['width']}x{r['height']}, {r['seconds']:.2f} s",
        workers=given["jobs"],
        as_json=given["as_json"],
        quiet=given["quiet"],
    )


def _decompress(task: Task, given: dict[str, Any]) -> dict[str, Any]:
    from mambaic.codec import load, load_for
    from mambaic.imaging.export import image_bytes

    job = task.job
    check_target(job, given["force"])
    chosen = _format(job.target, given["suffix"])
    data = read_stdin() if job.source is None else read_file(job.source)
    device = given["device"]
    codec = load(given["model"], device) if given["model"] else load_for(data, device)
    started = time.perf_counter()
    image = codec.decode(data, max_pixels=given["max_pixels"], progress=task.progress)
    seconds = time.perf_counter() - started
    if given["strip"]:
        image.info.clear()
    name = name_of(job.target)
    try:
        encoded, notes = image_bytes(image, chosen)
    except OutputError as exc:
        raise OutputError(f"{name}: {exc}") from exc
    for note in notes:
        warn(f"mambaic: {name}: note: {note}")
    if job.target is None:
        write_stdout(encoded)
    else:
        task.outputs.write(job.target, encoded, force=given["force"])
    return {
        "input": name_of(job.source),
        "output": name_of(job.target),
        "width": image.width,
        "height": image.height,
        "mode": image.mode,
        "bytes": len(encoded),
        "seconds": seconds,
    }


def _format(target: Path | None, suffix: str | None) -> str:
    """The one of FORMATS that is asked for. Raises OutputError."""
    chosen = suffix or (target.suffix.lower().lstrip(".") if target else "png")
    chosen = {"jpeg": "jpg", "tif": "tiff"}.get(chosen, chosen)
    if chosen not in FORMATS:
        raise OutputError(f"{target}: cannot write .{chosen}; use one of {', '.join(FORMATS)}")
    return chosen
