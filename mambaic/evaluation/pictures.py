"""Picture by picture: the better setting of a codec, pictures that all codecs coded, and on which
of them ours needs more bytes than another."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mambaic.evaluation.measure import Point
from mambaic.evaluation.quality_metrics import METRICS, PSNR, SSIMULACRA2, Metric
from mambaic.imaging.metrics import RateDistortion, bd_rate


def by_picture(points: Iterable[Point]) -> dict[tuple[str, str, str], list[Point]]:
    """Points of each (codec, image, setting)."""
    found: dict[tuple[str, str, str], list[Point]] = {}
    for point in points:
        found.setdefault((point.codec, point.image, point.setting), []).append(point)
    return found


def line(points: Sequence[Point], metric: Metric) -> RateDistortion:
    """One picture's curve, of the points that have the metric."""
    pairs = [(p.bpp, value) for p in points if (value := p.value(metric)) is not None]
    return [bpp for bpp, _ in pairs], [metric.of_mean(value) for _, value in pairs]


def better_settings(points: Sequence[Point]) -> list[Point]:
    """Of a codec with several settings, each picture's points of one: that with more points, else
    with fewer bits at equal SSIMULACRA2, or at equal PSNR where there is no such figure."""
    best: dict[tuple[str, str], str] = {}
    groups = by_picture(points)
    for (codec, image, setting), members in groups.items():
        before = best.setdefault((codec, image), setting)
        if before != setting and _is_better(members, groups[codec, image, before]):
            best[codec, image] = setting
    return [p for p in points if best[p.codec, p.image] == p.setting]


def _is_better(test: Sequence[Point], than: Sequence[Point]) -> bool:
    if len(test) != len(than):
        return len(test) > len(than)
    for metric in (SSIMULACRA2, PSNR):
        delta = bd_rate(line(than, metric), line(test, metric))
        if delta is not None:
            return delta < 0
    return sum(p.bytes for p in test) < sum(p.bytes for p in than)


def comparable(points: Sequence[Point]) -> tuple[list[Point], dict[str, str]]:
    """Points of the pictures over which means are fair: coded by every codec at every quality, and
    by none exactly. Returns them with the reason for every picture left out; all points, and why,
    where no picture would be left.

    A picture that one codec cannot code, or codes without an error, would bend the mean of that
    codec alone.
    """
    wanted = {(p.codec, p.quality) for p in points}
    by_image: dict[str, list[Point]] = {}
    for point in points:
        by_image.setdefault(point.image, []).append(point)
    left_out = {}
    for image, members in by_image.items():
        without = sorted({codec for codec, _ in wanted - {(p.codec, p.quality) for p in members}})
        exact = sorted({p.codec for p in members if p.psnr_db is None})
        if without:
            left_out[image] = f"not coded by {', '.join(without)}"
        elif exact:
            left_out[image] = f"coded exactly by {', '.join(exact)}, so its PSNR is infinite"
    kept = [p for p in points if p.image not in left_out]
    return kept or list(points), left_out


@dataclass(frozen=True)
class Duel:
    """One of our curves against another codec by one metric, picture by picture: BD-rates of the
    pictures in percent (more than 0: ours needs more bytes) where both curves overlap."""

    ours: str
    other: str
    metric: Metric
    bd_rates: dict[str, float]

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.bd_rates.values())))

    @property
    def share_lost(self) -> float:
        """Of pictures where ours needs more bytes, 0 to 1."""
        return float(np.mean([value > 0 for value in self.bd_rates.values()]))

    @property
    def worst(self) -> tuple[str, float]:
        return max(self.bd_rates.items(), key=lambda item: item[1])


def duels(points: Sequence[Point], ours: Collection[str]) -> list[Duel]:
    """Every curve of ``ours`` against every other codec by every metric that both have."""
    groups = {(codec, image): members for (codec, image, _), members in by_picture(points).items()}
    codecs = list(dict.fromkeys(p.codec for p in points))
    images = list(dict.fromkeys(p.image for p in points))
    found = []
    for name in (c for c in codecs if c in ours):
        for other in (c for c in codecs if c not in ours):
            for metric in METRICS:
                rates = {
                    image: bd_rate(
                        line(groups[other, image], metric), line(groups[name, image], metric)
                    )
                    for image in images
                    if (name, image) in groups and (other, image) in groups
                }
                known = {image: rate for image, rate in rates.items() if rate is not None}
                if known:
                    found.append(Duel(name, other, metric, known))
    return found
