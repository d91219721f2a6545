"""Picture by picture, what another codec reaches in as many bytes as a file of ours takes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from mambaic.evaluation.measure import Point
from mambaic.evaluation.pictures import by_picture, line
from mambaic.evaluation.quality_metrics import METRICS, Metric
from mambaic.imaging.metrics import rising


@dataclass(frozen=True)
class EqualBytes:
    """Ours at one quality against another codec by one metric. ``differences`` of the pictures are
    ours less the other's, on the metric's axis (dB or points); pictures whose bytes lie outside
    those of the other's files have none."""

    ours: str
    other: str
    metric: Metric
    quality: float
    differences: dict[str, float]

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.differences.values())))

    @property
    def share_lost(self) -> float:
        """Of pictures where ours is worse, 0 to 1."""
        return float(np.mean([value < 0 for value in self.differences.values()]))

    @property
    def worst(self) -> tuple[str, float]:
        return min(self.differences.items(), key=lambda item: item[1])


def at_equal_bytes(points: Sequence[Point], ours: Collection[str]) -> list[EqualBytes]:
    """Every quality of every curve of ``ours`` against every other codec, by each metric. Points
    hold one setting of a codec per picture."""
    groups = {(codec, image): members for (codec, image, _), members in by_picture(points).items()}
    own: dict[tuple[str, float], list[Point]] = {}
    for point in points:
        if point.codec in ours:
            own.setdefault((point.codec, point.quality), []).append(point)
    found = []
    for other in (c for c in dict.fromkeys(p.codec for p in points) if c not in ours):
        for (name, quality), members in own.items():
            for metric in METRICS:
                known = {
                    p.image: difference
                    for p in members
                    if (difference := _difference(p, groups.get((other, p.image), []), metric))
                    is not None
                }
                if known:
                    found.append(EqualBytes(name, other, metric, quality, known))
    return found


def _difference(point: Point, others: Sequence[Point], metric: Metric) -> float | None:
    """By which a point lies above the others' curve; None beyond the ends of that."""
    from scipy.interpolate import PchipInterpolator

    value = point.value(metric)
    bpp, values = rising(*line(others, metric))
    if value is None or len(bpp) < 2 or not bpp[0] <= point.bpp <= bpp[-1]:
        return None
    curve = PchipInterpolator(np.log(bpp), values)
    return metric.of_mean(value) - float(curve(np.log(point.bpp)))
