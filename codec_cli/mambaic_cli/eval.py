"""``mambaic eval``"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mambaic.container.fields import TASTES
from mambaic.encoder.effort import DEFAULT_EFFORT, EFFORTS
from mambaic.imaging.suffixes import IMAGE_SUFFIXES
from mambaic_cli.console import tell, tell_all
from mambaic_cli.device import device_option
from mambaic_cli.inputs import GivenPath, expand
from mambaic_cli.streams import printable, warn

if TYPE_CHECKING:
    from mambaic.evaluation.contenders import Contender
    from mambaic.evaluation.report import Report

Number = TypeVar("Number", int, float)
QUALITIES = "5,15,30,45,60,75,90,100"
CODECS = "mbic,jpeg,webp,avif,jxl,jpeg2000"


@click.command()
@click.argument("inputs", nargs=-1, type=GivenPath())
@click.option("-o", "--out", type=GivenPath(path_type=Path), help="Folder of the report.")
@click.option(
    "--qualities", default=QUALITIES, show_default=True, help="Qualities of mbic, 0 to 100."
)
@click.option(
    "--codecs",
    default=CODECS,
    show_default=True,
    help="avif:4:2:0 and avif:4:4:4 take that chroma setting alone; compressai:NAME, a model of "
    "CompressAI's zoo, is there for its time.",
)
@click.option(
    "--metrics", default="", metavar="NAMES", help="Further metrics: cvvdp (slow; mambaic[cvvdp])."
)
@click.option(
    "--model",
    "models",
    default="s",
    show_default=True,
    help="Checkpoints of mbic, by name or folder, comma-separated.",
)
@click.option(
    "--effort",
    default=str(DEFAULT_EFFORT),
    show_default=True,
    metavar="1..9",
    help="Effort of mbic's encoder as in compress, comma-separated: a curve each.",
)
@click.option(
    "--tune",
    help="What mbic's files are made for, psnr or eye, comma-separated: a curve each.  [default: psnr,eye; psnr if a model has no weights for the eye]",
)
@click.option(
    "--grain",
    is_flag=True,
    help="Of mbic also curves of files with grain, as of compress.",
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
    "--crops",
    metavar="RATES",
    help="In place of the report, a page of crops of every picture by all codecs at these bits per "
    "pixel, comma-separated.",
)
@click.option(
    "--place",
    "places",
    multiple=True,
    metavar="IMAGE:X,Y",
    help="Left top corner of a picture's crop of 256x256 [default: where most texture is].",
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
@device_option
def command(
    inputs: tuple[str, ...], out: Path | None, compare: tuple[Path, Path] | None, **given: Any
) -> int:
    """Measure rate-distortion curves of the images INPUTS (files, folders, globs) by real files,
    beside other codecs, and write a report."""
    from mambaic.extras import require

    require("eval")
    if compare is not None:
        from mambaic.evaluation.compare import compare as difference

        tell_all(difference(*compare))
        return 0
    if not inputs or out is None:
        raise click.UsageError("give images and the folder of the report with -o")
    if given["crops"] is not None:
        return _crops(_images(inputs), out, given)
    return _evaluate(_images(inputs), out, given)


def _evaluate(images: list[tuple[str, Path]], out: Path, given: dict[str, Any]) -> int:
    from tqdm import tqdm

    from mambaic.errors import ImageError
    from mambaic.evaluation.quality_metrics import chosen
    from mambaic.evaluation.report import make_report
    from mambaic.evaluation.run import Run

    metrics = chosen(given["metrics"].split(","))
    contenders = _contenders(given)
    run = Run(out, contenders, metrics, resume=given["resume"])
    total = len(images) * sum(len(c.qualities) for c in contenders)
    with tqdm(total=total, unit="file", file=sys.stderr) as bar:
        points = run.measure(images, given["jobs"], lambda: bar.update() and None)
    rated = {c.name for c in contenders if not c.times_only}
    if not any(point.codec in rated for point in points):
        for reason in [*run.unreadable.values(), *run.failures.values()]:
            warn(f"mambaic: {reason}")
        raise ImageError("none of the images could be coded: nothing to report")
    report = make_report(run, points, given["anchor"])
    for note in report.notes:
        warn(f"mambaic: {note}")
    _write(out, report, contenders, images, given["gallery"])
    tell_all((out / "report.md").read_text(encoding="utf-8"))
    tell(f"report: {out / 'index.html'}")
    return ImageError.exit_code if run.unreadable or run.failures else 0


def _write(
    out: Path, report: Report, contenders: Sequence[Contender], images: list[tuple[str, Path]],
    pictures: int,
) -> None:  # fmt: skip
    from mambaic.evaluation.page import gallery_entry, render, shown_contenders
    from mambaic.evaluation.plots import draw
    from mambaic.evaluation.report import write_tables
    from mambaic.evaluation.run import plain
    from mambaic.evaluation.tables import markdown
    from mambaic.imaging.atomic_files import atomic_write
    from mambaic.imaging.image import read_image

    write_tables(out, report)
    atomic_write(out / "report.md", markdown(report).encode(), force=True)
    plots = draw(report)
    for name, data in plots.items():
        atomic_write(out / name, data, force=True)
    coded = {p.image for p in report.points}
    readable = [(name, path) for name, path in images if name in coded]
    step = max(1, len(readable) // max(1, pictures))
    gallery = []
    for name, path in readable[::step][:pictures]:
        shown = shown_contenders(contenders, report.points, name)
        if shown:
            gallery.append(gallery_entry(name, plain(read_image(path)), shown))
    atomic_write(out / "index.html", render(report, plots, gallery).encode(), force=True)


def _crops(images: list[tuple[str, Path]], out: Path, given: dict[str, Any]) -> int:
    from tqdm import tqdm

    from mambaic.errors import ImageError
    from mambaic.evaluation.crops import row_of, write_crops
    from mambaic.evaluation.run import plain
    from mambaic.imaging.image import read_image

    rates, places = _numbers("--crops", given["crops"], 0.01, 24.0), _places(given["places"])
    if unknown := places.keys() - dict(images).keys():
        raise click.UsageError(f"--place: {', '.join(sorted(unknown))} is not among the images")
    contenders = [c for c in _contenders(given) if not c.times_only]
    rows, unreadable = [], 0
    with tqdm(total=len(images) * len(rates), unit="row", file=sys.stderr) as bar:
        for name, path in images:
            try:
                picture = plain(read_image(path))
            except ImageError as exc:
                warn(f"mambaic: {exc}")
                unreadable += 1
                continue
            for rate in rates:
                rows.append(row_of(name, picture, contenders, rate, places.get(name)))
                bar.update()
    page = write_crops(out, rows, {c.name: c.library for c in contenders})
    tell(f"crops: {page}")
    return ImageError.exit_code if unreadable else 0


def _places(given: Sequence[str]) -> dict[str, tuple[int, int]]:
    places = {}
    for text in given:
        name, _, corner = text.rpartition(":")
        try:
            left, top = map(int, corner.split(","))
        except ValueError as exc:
            raise click.UsageError(f"--place {text!r}: IMAGE:X,Y, as in photo.png:120,64") from exc
        places[name] = left, top
    return places


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
    from mambaic.evaluation.compressai_models import PREFIX, compressai_contender
    from mambaic.evaluation.contenders import RivalContender
    from mambaic.evaluation.rivals import rivals

    known = rivals()
    names = list(dict.fromkeys(rival.name for rival in known))
    contenders: list[Contender] = []
    for name in given["codecs"].split(","):
        rows = [rival for rival in known if name in (rival.name, f"{rival.name}:{rival.setting}")]
        if name == "mbic":
            contenders += _ours(given)
        elif name.startswith(PREFIX):
            contenders.append(compressai_contender(name.removeprefix(PREFIX)))
        elif not rows:
            raise click.UsageError(
                f"codec {name!r} is not one of mbic, {', '.join(names)}, {PREFIX}NAME"
            )
        elif rows[0].missing:
            warn(f"{name}: left out: {rows[0].missing}")
        else:
            contenders += [RivalContender(rival) for rival in rows]
    if not contenders:
        raise click.UsageError("none of the codecs can run here")
    return contenders


def _ours(given: dict[str, Any]) -> list[Contender]:
    """A curve for each checkpoint, tune and effort."""
    from mambaic import __version__
    from mambaic.codec import load
    from mambaic.evaluation.contenders import OurContender

    contenders: list[Contender] = []
    models = given["models"].split(",")
    qualities = _numbers("--qualities", given["qualities"], 0.0, 100.0)
    efforts = _numbers("--effort", given["effort"], min(EFFORTS), max(EFFORTS))
    codecs = [load(model, given["device"]) for model in models]
    both = "psnr,eye" if all(codec.model.eye for codec in codecs) else "psnr"
    tastes = _tastes(given["tune"] or both)
    grains = (False, True) if given["grain"] else (False,)
    named = zip(models, codecs, strict=True)
    for (model, codec), tune, effort, grain in product(named, tastes, efforts, grains):
        label = "mbic" if len(models) == 1 else f"mbic-{Path(model).name}"
        library = f"mambaic {__version__}, weights {codec.weights_id(tune).hex()}"
        curve = label + ("-eye" if tune else "")
        if effort != DEFAULT_EFFORT:
            curve += f"-effort{effort}"
        curve += "-grain" if grain else ""
        contenders.append(OurContender(curve, qualities, codec, library, effort, tune, grain))
    return contenders


def _tastes(text: str) -> list[float]:
    if unknown := set(text.split(",")) - set(TASTES):
        raise click.UsageError(f"--tune: {', '.join(sorted(unknown))} is not one of psnr, eye")
    return [TASTES[name] for name in text.split(",")]


def _numbers(option: str, text: str, least: Number, largest: Number) -> list[Number]:
    """Values of an option, of the type of their limits."""
    kind = type(least)
    try:
        values = sorted({kind(part) for part in text.split(",")})
    except ValueError as exc:
        wanted = "whole numbers" if kind is int else "numbers"
        raise click.UsageError(f"{option} {text!r}: {wanted} separated by commas") from exc
    if not all(least <= value <= largest for value in values):
        limits = f"{least:g} and {largest:g}"
        raise click.UsageError(f"{option} {text!r}: each must lie between {limits}")
    return values
