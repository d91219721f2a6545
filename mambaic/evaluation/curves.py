"""Curves over a set of images, published anchors, and Bjontegaard tables."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from typing import Any

import numpy as np

from mambaic.evaluation.measure import Point
from mambaic.evaluation.quality_metrics import METRICS, PSNR, SSIMULACRA2, Metric
from mambaic.imaging.metrics import RateDistortion, bd_psnr, bd_rate, rising

KODAK = {f"kodim{number:02d}" for number in range(1, 25)}
VTM = "VTM-18.0"
HIGH_SCORE = 60.0  # SSIMULACRA2 from which on pictures are stored to be looked at


@dataclass(frozen=True)
class Curve:
    """Means over images, one entry per quality, by rising rate. ``values`` by field of a metric:
    means over the images that have it, nan where none has; ``rates``: mean rate of the same."""

    name: str
    bpp: list[float]
    values: dict[str, list[float]]
    rates: dict[str, list[float]]
    encode_s: list[float]
    decode_s: list[float]
    qualities: list[float]
    images: int

    def mean(self, metric: Metric) -> list[float]:
        return self.values.get(metric.field) or [math.nan] * len(self.bpp)

    def has(self, metric: Metric) -> bool:
        return not any(math.isnan(value) for value in self.mean(metric))

    def line(self, metric: Metric) -> RateDistortion:
        """Rates and means on the metric's axis."""
        rates = self.rates.get(metric.field, self.bpp)
        return rates, [v if math.isnan(v) else metric.of_mean(v) for v in self.mean(metric)]


def curve(name: str, points: Iterable[Point]) -> Curve:
    """Mean of every figure at each quality of one codec."""
    by_quality: dict[float, list[Point]] = {}
    for point in points:
        by_quality.setdefault(point.quality, []).append(point)
    ordered = sorted(by_quality.items(), key=lambda item: _mean(p.bpp for p in item[1]))
    groups = [members for _, members in ordered]
    having = {m.field: [[p for p in g if p.value(m) is not None] for g in groups] for m in METRICS}
    return Curve(
        name=name,
        bpp=[_mean(p.bpp for p in group) for group in groups],
        values={
            m.field: [_mean(p.value(m) for p in group) for group in having[m.field]]
            for m in METRICS
        },
        rates={field: [_mean(p.bpp for p in group) for group in found]
               for field, found in having.items()},
        encode_s=[_mean(p.encode_s for p in group) for group in groups],
        decode_s=[_mean(p.decode_s for p in group) for group in groups],
        qualities=[quality for quality, _ in ordered],
        images=max(map(len, groups)),
    )  # fmt: skip


def _mean(values: Iterable[float | None]) -> float:
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else math.nan


def curves(points: Iterable[Point]) -> dict[str, Curve]:
    """Curves of all codecs among the points, in order of appearance."""
    by_codec: dict[str, list[Point]] = {}
    for point in points:
        by_codec.setdefault(point.codec, []).append(point)
    return {name: curve(name, members) for name, members in by_codec.items()}


def published(images: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Published points {name: {bpp, psnr, source}}, if ``images`` are exactly the Kodak set."""
    if {name.rsplit(".", 1)[0] for name in images} != KODAK:
        return {}
    file = resources.files("mambaic.evaluation") / "published_kodak.json"
    return dict(json.loads(file.read_text()))


def delta_table(
    measured: Mapping[str, Curve], anchors: Mapping[str, dict[str, Any]], anchor: str
) -> list[dict[str, Any]]:
    """BD-PSNR (dB) and BD-rates (percent) of every curve against ``anchor``: ``bd_rate`` by field
    of each metric that both have, PSNR's also by ``thirds``, and ``high_score`` of SSIMULACRA2
    from ``HIGH_SCORE`` on. None: no overlap."""
    lines = {
        name: {m.field: found.line(m) for m in METRICS if found.has(m)}
        for name, found in measured.items()
    } | {name: {PSNR.field: (entry["bpp"], entry["psnr"])} for name, entry in anchors.items()}
    base = lines[anchor]
    rows = []
    for name, line in lines.items():
        if name == anchor:
            continue
        common = [field for field in line if field in base]
        row: dict[str, Any] = {
            "codec": name,
            "published": name in anchors,
            "bd_rate": {field: bd_rate(base[field], line[field]) for field in common},
        }
        if PSNR.field in common:
            pair = base[PSNR.field], line[PSNR.field]
            row |= {"bd_psnr": bd_psnr(*pair), "thirds": bd_rate_by_third(*pair)}
        if SSIMULACRA2.field in common:
            pair = base[SSIMULACRA2.field], line[SSIMULACRA2.field]
            row["high_score"] = bd_rate_between(*pair, [HIGH_SCORE, math.inf])[0]
        rows.append(row)
    return rows


def bd_rate_by_third(anchor: RateDistortion, test: RateDistortion) -> list[float | None]:
    """BD-rate over the lower, middle and upper third of the PSNR range that both curves cover."""
    low, high = _overlap(anchor, test)
    if high <= low:
        return [None, None, None]
    return bd_rate_between(anchor, test, np.linspace(low, high, 4).tolist())


def bd_rate_between(
    anchor: RateDistortion, test: RateDistortion, edges: Sequence[float]
) -> list[float | None]:
    """BD-rate from each edge of the metric to the next, as far as both curves cover it."""
    from scipy.interpolate import PchipInterpolator

    low, high = _overlap(anchor, test)
    if high <= low:
        return [None] * (len(edges) - 1)
    ours = [rising(*line) for line in (anchor, test)]
    lines = [PchipInterpolator(value, np.log(bpp)) for bpp, value in ours]
    parts: list[float | None] = []
    for start, stop in pairwise(edges):
        at = np.linspace(max(start, low), min(stop, high), 9)
        if at[-1] <= at[0]:
            parts.append(None)
            continue
        first, second = ((np.exp(line(at)).tolist(), at.tolist()) for line in lines)
        parts.append(bd_rate(first, second))
    return parts


def _overlap(anchor: RateDistortion, test: RateDistortion) -> tuple[float, float]:
    """Range of the metric that both cover; empty if one is no curve."""
    values = [rising(*line)[1] for line in (anchor, test)]
    if min(map(len, values)) < 2:
        return 0.0, 0.0
    return max(float(v[0]) for v in values), min(float(v[-1]) for v in values)
