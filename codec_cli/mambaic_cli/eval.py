"""``mambaic eval``"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mambaic_cli.console import tell, tell_all
from mambaic_cli.inputs import IMAGE_SUFFIXES, GivenPath, expand
from mambaic_cli.streams import printable, warn

if TYPE_CHECKING:
    from mambaic.evaluation.measure import Contender

Number = TypeVar("Number", int, float)
QUALITIES = "5,15,30,45,60,75,90,100"
CODECS = "mbic,jpeg,webp,avif,jxl,jpeg2000"


@click.command()
@click.argument("inputs", nargs=-1, type=GivenPath())
@click.option("-o", "--out", type=GivenPath(path_type=Path), help="Folder of the report.")
@click.option(
    "--qualities", default=QUALITIES, show_default=True, help="Qualities of mbic, 0 to 100."
)
@click.option("--codecs", default=CODECS, show_default=True)
@click.option(
    "--model",
    "models",
    default="s",
    show_default=True,
    help="Checkpoints of mbic, by name or folder, comma-separated.",
)
@click.option(
    "--refine",
    default="0",
    show_default=True,
    metavar="STEPS",
    help="Steps of refining mbic's latents as in compress, comma-separated: a curve each.",
)
@click.option(
    "--anchor",
    help="Curve that BD figures refer to [default: VTM-18.0 on Kodak, else the first other codec].",
)
@click.option(
    "--gallery",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="Pictures to compare in the HTML page.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Images at a time; times are then of shared cores.",
)
@click.option("--resume", is_flag=True, help="Go on with the interrupted report in --out.")
@click.option(
    "--compare",
    nargs=2,
    type=GivenPath(path_type=Path),
    help="Two codec JSON files of reports: how they differ.",
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)
def command(
    inputs: tuple[str, ...], out: Path | None, compare: tuple[Path, Path] | None, **given: Any
) -> int:
    """Measure rate-distortion curves of the images INPUTS (files, folders, globs) by real files,
    beside other codecs, and write a report."""
    from mambaic.extras import require

    require("eval")
    if compare is not None:
        from mambaic.evaluation.report import compare as difference

        tell_all(difference(*compare))
        return 0
    if not inputs or out is None:
        raise click.UsageError("give images and the folder of the report with -o")
    return _evaluate(_images(inputs), out, given)


def _evaluate(images: list[tuple[str, Path]], out: Path, given: dict[str, Any]) -> int:
    from tqdm import tqdm

    from mambaic.errors import ImageError
    from mambaic.evaluation.report import write_report
    from mambaic.evaluation.run import Run

    contenders = _contenders(given)
    run = Run(out, contenders, resume=given["resume"])
    total = len(images) * sum(len(c.qualities) for c in contenders)
    with tqdm(total=total, unit="file", file=sys.stderr) as bar:
        points = run.measure(images, given["jobs"], lambda: bar.update() and None)
    for reason in run.unreadable.values():
        warn(f"mambaic: {reason}")
    if not points:
        raise ImageError("none of the images could be read: nothing to report")
    libraries = {c.name: c.library for c in contenders}
    table = write_report(out, points, libraries, given["anchor"])
    _write_page(out, points, table, run.unreadable, contenders, images, given)
    tell_all((out / "report.md").read_text(encoding="utf-8"))
    tell(f"report: {out / 'index.html'}")
    return ImageError.exit_code if run.unreadable else 0


def _write_page(
    out: Path, points: Any, table: Any, unreadable: dict[str, str],
    contenders: Sequence[Contender], images: list[tuple[str, Path]], given: dict[str, Any],
) -> None:  # fmt: skip
    import json

    from mambaic.evaluation.curves import curves
    from mambaic.evaluation.page import gallery_entry, render
    from mambaic.evaluation.run import plain
    from mambaic.imaging.atomic_files import atomic_write
    from mambaic.imaging.image import read_image

    readable = [(name, path) for name, path in images if name not in unreadable]
    step = max(1, len(readable) // max(1, given["gallery"]))
    shown = readable[::step][: given["gallery"]]
    gallery = [gallery_entry(name, plain(read_image(path)), contenders) for name, path in shown]
    anchor = json.loads((out / "bd.json").read_text())["anchor"]
    libraries = {c.name: c.library for c in contenders}
    html = render(out, curves(points), table, anchor, libraries, gallery, unreadable)
    atomic_write(out / "index.html", html.encode(), force=True)


def _images(inputs: tuple[str, ...]) -> list[tuple[str, Path]]:
    """(name in the report, path); names are paths below the folder that was given."""
    found: dict[str, Path] = {}
    for name in inputs:
        for file in expand(name, IMAGE_SUFFIXES):
            if file.problem is not None:
                raise file.problem
            shown = printable(str(file.below))
            if shown in found:
                raise click.UsageError(f"two images would be called {shown} in the report")
            found[shown] = file.path
    return list(found.items())


def _contenders(given: dict[str, Any]) -> list[Contender]:
    """Codecs to measure; those that cannot run here are named and left out."""
    from mambaic import __version__
    from mambaic.codec import load
    from mambaic.evaluation.measure import OurContender, RivalContender
    from mambaic.evaluation.rivals import rivals

    known = rivals()
    contenders: list[Contender] = []
    for name in given["codecs"].split(","):
        if name == "mbic":
            models = given["models"].split(",")
            for model in models:
                codec = load(model, given["device"])
                label = "mbic" if len(models) == 1 else f"mbic-{Path(model).name}"
                library = f"mambaic {__version__}, weights {codec.model.weights_id.hex()}"
                qualities = _numbers("--qualities", given["qualities"], 100, float)
                for steps in _numbers("--refine", given["refine"], 10_000, int):
                    curve = f"{label}-refine{steps}" if steps else label
                    contenders.append(OurContender(curve, qualities, codec, library, steps))
        elif name not in known:
            raise click.UsageError(f"codec {name!r} is not one of mbic, {', '.join(known)}")
        elif known[name].missing:
            warn(f"{name}: left out: {known[name].missing}")
        else:
            contenders.append(RivalContender(known[name]))
    if not contenders:
        raise click.UsageError("none of the codecs can run here")
    return contenders


def _numbers(option: str, text: str, largest: Number, kind: type[Number]) -> list[Number]:
    try:
        values = sorted({kind(part) for part in text.split(",")})
    except ValueError as exc:
        wanted = "whole numbers" if kind is int else "numbers"
        raise click.UsageError(f"{option} {text!r}: {wanted} separated by commas") from exc
    if not all(0 <= value <= largest for value in values):
        raise click.UsageError(f"{option} {text!r}: each must lie between 0 and {largest:g}")
    return values
