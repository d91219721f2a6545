"""``mambaic decompress``"""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mambaic.container.fields import MAX_PIXELS
from mambaic.errors import OutputError
from mambaic_cli.batch import Task, run_jobs
from mambaic_cli.console import read_stdin, write_stdout
from mambaic_cli.inputs import MBIC_SUFFIX, GivenPath, read_file
from mambaic_cli.jobs import check_target, name_of, plan_jobs
from mambaic_cli.streams import warn

if TYPE_CHECKING:
    from PIL import Image

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tiff": "TIFF", "bmp": "BMP", "ppm": "PPM"}
# what Pillow's writers keep; the others leave it out without a word
ALPHA = {"png", "webp", "tiff"}
METADATA = {
    "icc_profile": {"png", "jpg", "webp", "tiff"},
    "exif": {"png", "jpg", "webp", "tiff"},
    "xmp": {"png", "jpg", "webp"},
}


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
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)
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

    job = task.job
    check_target(job, given["force"])
    chosen = _format(job.target, given["suffix"])
    data = read_stdin() if job.source is None else read_file(job.source)
    device = given["device"]
    codec = load(given["model"], device) if given["model"] else load_for(data, device)
    started = time.perf_counter()
    image = codec.decode(data, max_pixels=given["max_pixels"], progress=task.progress)
    seconds = time.perf_counter() - started
    encoded = _image_bytes(image, name_of(job.target), chosen)
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
    """The key of FORMATS that is asked for. Raises OutputError."""
    chosen = suffix or (target.suffix.lower().lstrip(".") if target else "png")
    chosen = {"jpeg": "jpg", "tif": "tiff"}.get(chosen, chosen)
    if chosen not in FORMATS:
        raise OutputError(f"{target}: cannot write .{chosen}; use one of {', '.join(FORMATS)}")
    return chosen


def _image_bytes(image: Image.Image, name: str, chosen: str) -> bytes:
    """The image in the format chosen, lossless where it can, with the metadata it can keep; says
    what it cannot. Raises OutputError on alpha that would be lost."""
    if image.mode in ("RGBA", "LA") and chosen not in ALPHA:
        raise OutputError(f"{name}: .{chosen} would lose the alpha; use {', '.join(sorted(ALPHA))}")
    if lost := [k for k, able in METADATA.items() if k in image.info and chosen not in able]:
        warn(f"mambaic: {name}: note: .{chosen} does not keep {', '.join(lost)}")
    options: dict[str, Any] = {
        key: image.info[key]
        for key, able in METADATA.items()
        if key in image.info and chosen in able
    }
    if chosen == "webp":
        options["lossless"] = True
    if chosen == "jpg":
        options |= {"quality": 95, "subsampling": 0}
    if chosen == "png" and "xmp" in options:
        from PIL import PngImagePlugin

        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", options.pop("xmp").decode("utf-8", "replace"))
        options["pnginfo"] = text
    buffer = io.BytesIO()
    try:
        image.save(buffer, FORMATS[chosen], **options)
    except (OSError, ValueError) as exc:
        raise OutputError(f"{name}: cannot be written as .{chosen}: {exc}") from exc
    return buffer.getvalue()
