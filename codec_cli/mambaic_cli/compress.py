"""``mambaic compress``"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from mambaic.container.fields import MAX_PIXELS, TASTES, bpp_from_bytes
from mambaic.encoder.effort import DEFAULT_EFFORT
from mambaic.errors import ImageError
from mambaic.imaging.suffixes import IMAGE_SUFFIXES, MBIC_SUFFIX
from mambaic_cli.batch import Task, run_jobs
from mambaic_cli.console import read_stdin, write_stdout
from mambaic_cli.device import device_option
from mambaic_cli.inputs import GivenPath, read_file
from mambaic_cli.jobs import check_target, name_of, plan_jobs
from mambaic_cli.streams import warn

if TYPE_CHECKING:
    from mambaic.codec import Codec
    from mambaic.encoder.options import EncodeOptions
    from mambaic.encoder.rate_control import Target
    from mambaic.imaging.atomic_files import SourceFile


TARGETS: tuple[Literal["bpp", "size", "psnr"], ...] = ("bpp", "size", "psnr")


@dataclass(frozen=True)
class Options:
    """What the command line asked for beside the settings of the encoder."""

    encode: EncodeOptions
    target: Target | None
    force: bool
    verify: bool
    delete_source: bool
    max_pixels: int


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=GivenPath())
@click.option("-o", "--out", type=GivenPath(), help="Output file or folder (DIR/); - is stdout.")
@click.option("-q", "--quality", type=click.FloatRange(0, 100), help="0 to 100 [default: 60].")
@click.option(
    "--target-bpp", type=click.FloatRange(min=0, min_open=True), help="Bits per pixel, within 1 %."
)
@click.option("--target-size", type=click.IntRange(min=1), help="Bytes, within 1 %.")
@click.option("--target-psnr", type=click.FloatRange(min=0), help="Decibels, within 0.05.")
@click.option("--model", default="s", show_default=True, help="Shipped name or checkpoint folder.")
@device_option
@click.option("--strip", is_flag=True, help="Leave out ICC, EXIF and XMP.")
@click.option(
    "--tile", type=int, help="Side of latent tiles, multiple of 4; 0 for none [default: by size]."
)
@click.option(
    "--effort",
    type=click.IntRange(1, 9),
    default=DEFAULT_EFFORT,
    show_default=True,
    help="1 is fastest, 9 makes the smallest files; from 6 on half a minute to minutes a megapixel.",
)
@click.option(
    "--tune",
    type=click.Choice(list(TASTES)),
    help="What files are made for: least squared error, or the eye.  [default: eye; psnr with --target-psnr, or if the model has no weights for the eye]",
)
@click.option(
    "--grain",
    is_flag=True,
    help="Decoders make noise like the fine texture that is left out: livelier, further from the original.",
)
@click.option("--force", is_flag=True, help="Replace existing files.")
@click.option(
    "--verify/--no-verify",
    default=None,
    help="Decode before saying done [default: with --delete-source].",
)
@click.option(
    "--delete-source",
    is_flag=True,
    help="Delete inputs once their files are verified; those that held more (frames, 16 bits, CMYK) stay.",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Files or tiles at a time.",
)
@click.option("--max-pixels", type=click.IntRange(min=1), default=MAX_PIXELS, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file on stdout.")
@click.option("--quiet", is_flag=True)
def command(inputs: tuple[str, ...], out: str | None, **given: Any) -> int:
    """Compress photographs to .mbic files. IN are files, folders, globs, or - for stdin."""
    targets = [unit for unit in TARGETS if given[f"target_{unit}"] is not None]
    if len(targets) + (given["quality"] is not None) > 1:
        raise click.UsageError("give one of --quality, --target-bpp, --target-size, --target-psnr")
    jobs = plan_jobs(inputs, out, suffixes=IMAGE_SUFFIXES, new_suffix=MBIC_SUFFIX)
    if given["delete_source"]:
        if given["verify"] is False:
            raise click.UsageError("--delete-source needs --verify")
        if any(job.source is None or job.piped for job in jobs):
            raise click.UsageError("--delete-source needs input and output files, not a pipe")
    from mambaic.codec import load
    from mambaic.encoder.options import EncodeOptions
    from mambaic.encoder.rate_control import Target

    codec = load(given["model"], given["device"])
    taste = given["tune"] or ("psnr" if "psnr" in targets else None)
    options = Options(
        encode=EncodeOptions(
            quality=60.0 if given["quality"] is None else given["quality"],
            strip=given["strip"],
            tile=given["tile"],
            effort=given["effort"],
            tune=TASTES[taste] if taste else None,
            grain=given["grain"],
            # one big file runs its tiles in parallel, many files run beside each other
            workers=given["jobs"] if len(jobs) == 1 else 1,
        ),
        target=Target(targets[0], given[f"target_{targets[0]}"]) if targets else None,
        force=given["force"],
        verify=given["delete_source"] if given["verify"] is None else given["verify"],
        delete_source=given["delete_source"],
        max_pixels=given["max_pixels"],
    )
    return run_jobs(
        jobs,
        lambda task: _compress(codec, task, options),
        line=lambda r: (
            f"{r['output']}: {r['bytes']} bytes, {r['bpp']:.3f} bpp, {r['seconds']:.2f} s"
        ),
        workers=given["jobs"],
        as_json=given["as_json"],
        quiet=given["quiet"],
    )


def _compress(codec: Codec, task: Task, options: Options) -> dict[str, Any]:
    from mambaic.encoder.rate_control import encode_to_target
    from mambaic.imaging.image import read_image

    job, progress = task.job, task.progress
    check_target(job, options.force)
    source, content = _source(job.source, options)
    picture = read_image(content, max_pixels=options.max_pixels)
    for note in picture.notes:
        warn(f"mambaic: {name_of(job.source)}: note: {note}")
    started = time.perf_counter()
    if options.target is not None:
        data = encode_to_target(codec, picture, options.target, options.encode, progress)
    else:
        data = codec.encode_picture(picture, options.encode, progress).data
    if options.verify:
        codec.verify(data)
    seconds = time.perf_counter() - started
    deleted = options.delete_source and not picture.notes
    if job.target is None:
        write_stdout(data)
    else:
        replaces = source if deleted else None
        task.outputs.write(job.target, data, force=options.force, replaces=replaces)
    if options.delete_source and not deleted:
        warn(f"mambaic: {name_of(job.source)}: kept, as it holds more than its file")
    width, height = picture.size
    return {
        "input": name_of(job.source),
        "output": name_of(job.target),
        "width": width,
        "height": height,
        "bytes": len(data),
        "bpp": bpp_from_bytes(len(data), width, height),
        "seconds": seconds,
        "deleted": deleted,
        "notes": list(picture.notes),
    }


def _source(path: Path | None, options: Options) -> tuple[SourceFile | None, Path | bytes]:
    """(the file as it is now, what to read the picture from): bytes of a pipe can be read once.
    Raises ImageError."""
    from mambaic.imaging.atomic_files import SourceFile

    if path is None:
        return None, read_stdin()
    source = SourceFile.of(path)
    if source.regular or path.is_dir():
        return source, path
    if options.delete_source:
        raise ImageError(f"{path}: is not a regular file, which alone --delete-source deletes")
    return source, read_file(path)
