"""Curves over a set of images, published anchors, and Bjontegaard tables."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from typing import Any

import numpy as np

from mambaic.evaluation.measure import Point
from mambaic.imaging.metrics import RateDistortion, bd_psnr, bd_rate, rising

KODAK = {f"kodim{number:02d}" for number in range(1, 25)}
VTM = "VTM-18.0"


@dataclass(frozen=True)
class Curve:
    """Means over images, one entry per quality, by rising rate."""

    name: str
    bpp: list[float]
    psnr_db: list[float]
    ms_ssim: list[float]
    encode_s: list[float]
    decode_s: list[float]
    qualities: list[float]
    images: int

    @property
    def rate_distortion(self) -> RateDistortion:
        return self.bpp, self.psnr_db

    @property
    def rate_similarity(self) -> RateDistortion:
        """With MS-SSIM in dB, ``-10 log10(1 - MS-SSIM)``; nan where there is none."""
        return self.bpp, [-10 * math.log10(1 - v) if v < 1 else math.nan for v in self.ms_ssim]


def curve(name: str, points: Iterable[Point]) -> Curve:
    """Mean of every figure at each quality of one codec; MS-SSIM over images that have one."""
    by_quality: dict[float, list[Point]] = {}
    for point in points:
        by_quality.setdefault(point.quality, []).append(point)
    rows = []
    for quality, members in by_quality.items():
        similar = [p.ms_ssim for p in members if p.ms_ssim is not None]
        rows.append(
            (
                float(np.mean([p.bpp for p in members])),
                float(np.mean([p.psnr_db for p in members])),
                float(np.mean(similar)) if similar else float("nan"),
                float(np.mean([p.encode_s for p in members])),
                float(np.mean([p.decode_s for p in members])),
                quality,
            )
        )
    rows.sort()
    bpp, psnr, similarity, encode, decode, qualities = (list(c) for c in zip(*rows, strict=True))
    images = max(map(len, by_quality.values()))
    return Curve(name, bpp, psnr, similarity, encode, decode, qualities, images)


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
    """BD-rate (percent) and BD-PSNR (dB) of every curve against ``anchor``; None: no overlap.
    Against a measured one of measured ones also the BD-rate at equal MS-SSIM."""
    lines = {name: found.rate_distortion for name, found in measured.items()}
    similar = {name: found.rate_similarity for name, found in measured.items()}
    lines |= {name: (entry["bpp"], entry["psnr"]) for name, entry in anchors.items()}
    base = lines[anchor]
    rows = []
    for name, line in lines.items():
        if name == anchor:
            continue
        row = {
            "codec": name,
            "published": name in anchors,
            "bd_rate": bd_rate(base, line),
            "bd_psnr": bd_psnr(base, line),
            "thirds": bd_rate_by_third(base, line),
        }
        if anchor in similar and name in similar:
            row["bd_rate_ms_ssim"] = bd_rate(similar[anchor], similar[name])
        rows.append(row)
    return rows


def bd_rate_by_third(anchor: RateDistortion, test: RateDistortion) -> list[float | None]:
    """BD-rate over the lower, middle and upper third of the PSNR range that both curves cover."""
    from scipy.interpolate import PchipInterpolator

    ours = [rising(*line) for line in (anchor, test)]
    if min(len(psnr) for _, psnr in ours) < 2:
        return [None, None, None]
    low = max(psnr[0] for _, psnr in ours)
    high = min(psnr[-1] for _, psnr in ours)
    if high <= low:
        return [None, None, None]
    edges = np.linspace(low, high, 4)
    lines = [PchipInterpolator(psnr, np.log(bpp)) for bpp, psnr in ours]
    parts = []
    for start, stop in pairwise(edges):
        at = np.linspace(start, stop, 9)
        first, second = ((np.exp(line(at)).tolist(), at.tolist()) for line in lines)
        parts.append(bd_rate(first, second))
    return parts
