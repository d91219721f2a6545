"""A finished evaluation: what its tables, plots and pages say, and its files on disk."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from mambaic.errors import ConfigError
from mambaic.evaluation.contenders import Contender
from mambaic.evaluation.curves import VTM, Curve, curves, delta_table, published
from mambaic.evaluation.equal_bytes import EqualBytes, at_equal_bytes
from mambaic.evaluation.measure import Point
from mambaic.evaluation.pictures import Duel, better_settings, comparable, duels
from mambaic.evaluation.quality_metrics import METRICS, Metric
from mambaic.evaluation.run import Run
from mambaic.imaging.atomic_files import atomic_write

TIMES = {"encoding_time": "encode_s", "decoding_time": "decode_s"}


@dataclass(frozen=True)
class Report:
    """``measured``: curves over the pictures that all codecs coded; ``timed``: those whose times
    alone mean something; ``chosen``: how many pictures took which setting of a codec; ``notes``:
    what is missing and why."""

    points: list[Point]
    measured: dict[str, Curve]
    timed: dict[str, Curve]
    anchor: str
    known: dict[str, dict[str, Any]]
    table: list[dict[str, Any]]
    duels: list[Duel]
    at_equal_bytes: list[EqualBytes]
    libraries: dict[str, str]
    chosen: dict[str, dict[str, int]]
    notes: list[str]
    threads: int

    @property
    def metrics(self) -> list[Metric]:
        """Those that some curve has."""
        return [m for m in METRICS if any(c.has(m) for c in self.measured.values())]


def make_report(run: Run, points: Sequence[Point], anchor: str | None) -> Report:
    """Its BD figures refer to ``anchor``, else to VTM-18.0 where that is published for these
    images, else to the first codec that is not ours.

    Raises ConfigError if there is no such curve.
    """
    kinds = {c.name: c for c in run.contenders}
    rated = better_settings([p for p in points if not kinds[p.codec].times_only])
    kept, left_out = comparable(rated)
    measured = curves(kept)
    ours = {name for name in measured if kinds[name].ours}
    pictures = {p.image for p in kept}
    known = published(pictures)
    anchor = pick_anchor(measured, known, ours, anchor)
    return Report(
        points=list(points),
        measured=measured,
        timed=curves(p for p in points if kinds[p.codec].times_only and p.image in pictures),
        anchor=anchor,
        known=known,
        table=delta_table(measured, known, anchor),
        duels=duels(rated, ours),
        at_equal_bytes=at_equal_bytes(rated, ours),
        libraries={name: contender.library for name, contender in kinds.items()},
        chosen=_chosen(rated, run.contenders),
        notes=_notes(run, left_out),
        threads=torch.get_num_threads(),
    )


def pick_anchor(
    measured: Mapping[str, Curve], known: Mapping[str, Any], ours: set[str], anchor: str | None
) -> str:
    """Name of the curve that BD figures refer to. Raises ConfigError if there is none such."""
    choices = [*known, *measured]
    if anchor is not None and anchor not in choices:
        raise ConfigError(f"anchor {anchor!r} is not one of {', '.join(choices)}")
    if anchor is None and VTM not in known:
        return next((name for name in measured if name not in ours), choices[0])
    return anchor or VTM


def _chosen(points: Sequence[Point], contenders: Sequence[Contender]) -> dict[str, dict[str, int]]:
    counts = {c.name: Counter[str]() for c in contenders if c.setting}
    for codec, _, setting in {(p.codec, p.image, p.setting) for p in points if p.setting}:
        counts[codec][setting] += 1
    return {name: dict(sorted(count.items())) for name, count in counts.items()}


def _notes(run: Run, left_out: Mapping[str, str]) -> list[str]:
    return [
        *(f"not measured: {reason}" for reason in run.unreadable.values()),
        *(f"{image}: {codec} could not code it: {why}"
          for (image, codec), why in run.failures.items()),
        *(f"{image}: left out of the means: {why}" for image, why in left_out.items()),
    ]  # fmt: skip


def file_stem(codec: str) -> str:
    """Name of a codec's files: without what file systems refuse."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in codec)


def write_tables(folder: Path, report: Report) -> None:
    """CSV and JSON of the report."""
    for found in [*report.measured.values(), *report.timed.values()]:
        content = compressai_json(found, report.points, report.libraries[found.name])
        if found.name in report.timed:
            content["results"] = {key: content["results"][key] for key in TIMES}
        _write_json(folder / f"{file_stem(found.name)}.json", content)
    atomic_write(folder / "points.csv", csv_of(report.points).encode(), force=True)
    _write_json(folder / "bd.json", {
        "anchor": report.anchor,
        "rows": report.table,
        "pictures": [
            {"codec": d.ours, "against": d.other, "metric": d.metric.key, "mean": d.mean,
             "share_lost": d.share_lost, "worst": d.worst[0], "bd_rate": d.bd_rates}
            for d in report.duels
        ],
        "at_equal_bytes": [
            {"codec": e.ours, "against": e.other, "metric": e.metric.key, "quality": e.quality,
             "mean": e.mean, "share_lost": e.share_lost, "worst": e.worst[0],
             "differences": e.differences}
            for e in report.at_equal_bytes
        ],
        "notes": report.notes,
    })  # fmt: skip


def _write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    atomic_write(path, text.encode(), force=True)


def compressai_json(found: Curve, points: Sequence[Point], library: str) -> dict[str, Any]:
    """Averages as CompressAI's ``results/`` files have them, and the same per image; null where a
    metric has no value."""
    keys = {"bpp": "bpp", **{m.key: m.field for m in METRICS}, **TIMES}
    images: dict[str, dict[str, list[Any]]] = {}
    own = [p for p in points if p.codec == found.name]
    for point in sorted(better_settings(own), key=lambda p: found.qualities.index(p.quality)):
        entry = images.setdefault(point.image, {key: [] for key in keys})
        for key, field in keys.items():
            entry[key].append(getattr(point, field))
    results = {"bpp": found.bpp, **{m.key: found.mean(m) for m in METRICS if found.has(m)}}
    results |= {key: getattr(found, field) for key, field in TIMES.items()}
    return {
        "name": found.name,
        "description": library,
        "qualities": found.qualities,
        "results": {k: v for k, v in results.items() if not any(math.isnan(x) for x in v)},
        "images": images,
    }


def csv_of(points: Sequence[Point]) -> str:
    """One line per image, codec, setting and quality."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [field.name for field in fields(Point)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(point) for point in points)
    return buffer.getvalue()
