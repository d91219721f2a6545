"""Integer frequency tables of the scale mixture, one per scale level; frozen in the checkpoint.

A latent's residual is distributed as weight * N(0, scale) + (1 - weight) * N(0, ratio * scale),
rounded to integers. ``weight`` and ``ratio`` are learned once for the whole model; the scale of
each latent picks one of LEVELS tables. Format section: docs/format.md, "Tables".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LEVELS = 64
SCALE_MIN, SCALE_MAX = 0.11, 256.0
LOG_MIN = math.log(SCALE_MIN)
LOG_STEP = (math.log(SCALE_MAX) - LOG_MIN) / (LEVELS - 1)
PRECISION = 16  # frequencies of one table sum to 2 ** PRECISION
MAX_RADIUS = 1024


def level_position(log_scale: Tensor) -> Tensor:
    """Continuous table position: level k covers [k, k + 1). Clamped to the first and last."""
    return ((log_scale - LOG_MIN) / LOG_STEP + 0.5).clamp(0.0, LEVELS - 1e-3)


def mixture_mass(value: Tensor, scale: Tensor, weight: Tensor, ratio: Tensor) -> Tensor:
    """Probability of the unit interval around ``value``; any float dtype, differentiable."""
    magnitude = value.abs()

    def mass(deviation: Tensor) -> Tensor:
        root = deviation * math.sqrt(2.0)
        upper = torch.erfc((magnitude - 0.5) / root)
        return 0.5 * (upper - torch.erfc((magnitude + 0.5) / root))

    return weight * mass(scale) + (1 - weight) * mass(scale * ratio)


@dataclass(frozen=True)
class Tables:
    """Frequencies of the symbols -radius..radius, then of the escape, for every level.

    ``frequencies`` holds the tables one after the other; levels under ``skip`` are not coded at
    all: their symbols are zero.
    """

    radius: np.ndarray  # (LEVELS,) int32
    frequencies: np.ndarray  # (sum(2 * radius + 2),) int32
    skip: int

    def table(self, level: int) -> np.ndarray:
        """Frequencies of one level, summing to 2 ** PRECISION."""
        start = int(np.sum(2 * self.radius[:level] + 2))
        return self.frequencies[start : start + 2 * int(self.radius[level]) + 2]


def build_tables(weight: float, ratio: float, skip_scale: float) -> Tables:
    """Tables of a trained model. Run once, at export; loading never rebuilds them.

    ``skip_scale``: levels whose scale lies under it are not coded.
    """
    radius = np.zeros(LEVELS, dtype=np.int32)
    parts = []
    w, r = torch.tensor(weight, dtype=torch.float64), torch.tensor(ratio, dtype=torch.float64)
    skip = 0
    for level in range(LEVELS):
        scale = math.exp(LOG_MIN + level * LOG_STEP)
        if scale < skip_scale:
            skip = level + 1
        radius[level] = min(MAX_RADIUS, max(1, math.ceil(4.5 * scale * max(1.0, ratio))))
        values = torch.arange(-int(radius[level]), int(radius[level]) + 1, dtype=torch.float64)
        mass = mixture_mass(values, torch.tensor(scale, dtype=torch.float64), w, r).numpy()
        parts.append(_integer_frequencies(np.append(mass, max(0.0, 1.0 - mass.sum()))))
    return Tables(radius, np.concatenate(parts), skip)


def _integer_frequencies(mass: np.ndarray) -> np.ndarray:
    """Positive integers near ``mass`` that sum to 2 ** PRECISION exactly."""
    total = 1 << PRECISION
    free = total - len(mass)
    ideal = mass / mass.sum() * free
    counts = np.floor(ideal).astype(np.int64)
    # largest remainders take what rounding down left over; ties go to the lower index
    order = np.argsort(-(ideal - counts), kind="stable")
    counts[order[: free - int(counts.sum())]] += 1
    return (counts + 1).astype(np.int32)
