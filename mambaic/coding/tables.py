"""Integer frequency tables of the scale mixture, one per scale level; frozen in the checkpoint.

A latent's residual is distributed as weight * N(0, scale) + (1 - weight) * N(0, ratio * scale),
rounded to integers. ``weight`` and ``ratio`` are learned once for the whole model; the scale of
each latent picks one of LEVELS tables. What training prices is a noisy residual, not a rounded one,
so the tables are then moved to what the rounded residuals of photographs are counted to be.
Format section: docs/format.md, "Tables".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mambaic_kernels.mixture import mixture_mass

LEVELS = 64
SCALE_MIN, SCALE_MAX = 0.11, 256.0
LOG_MIN = math.log(SCALE_MIN)
LOG_STEP = (math.log(SCALE_MAX) - LOG_MIN) / (LEVELS - 1)
PRECISION = 16  # frequencies of one table sum to 2 ** PRECISION
MAX_RADIUS = 1024
MIXTURE_COUNT = 256  # how many counted symbols of a level the learned mixture is worth


def level_position(log_scale: Tensor) -> Tensor:
    """Continuous table position: level k covers [k, k + 1). Clamped to the first and last."""
    return ((log_scale - LOG_MIN) / LOG_STEP + 0.5).clamp(0.0, LEVELS - 1e-3)


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
        start = int(self._starts[level])
        return self.frequencies[start : start + 2 * int(self.radius[level]) + 2]

    @property
    def _starts(self) -> np.ndarray:
        sizes = 2 * self.radius.astype(np.int64) + 2
        return np.cumsum(sizes) - sizes

    def likelihood(self, symbols: Tensor, level: Tensor) -> Tensor:
        """2 ** -bits of what the range coder writes for each symbol under the table of its level
        (int64), in float64; 1 for levels not coded."""
        device = level.device
        radius, start, frequency = (
            torch.from_numpy(v).to(device) for v in (self.radius, self._starts, self.frequencies)
        )
        reach = radius[level]
        beyond = symbols.abs() - reach  # over 0: written as the escape, an integer and a sign
        place = torch.where(beyond > 0, 2 * reach + 1, (symbols + reach).long())
        mass = frequency[start[level] + place].double() / (1 << PRECISION)
        # an integer v takes the length of v + 1 in binary twice, less one; the sign one bit
        length = torch.floor(torch.log2(beyond.clamp(min=1).double())) + 1
        mass = torch.where(beyond > 0, mass * torch.exp2(-2 * length), mass)
        return mass.masked_fill(level < self.skip, 1.0)


def count_magnitudes(symbols: Tensor, log_scale: Tensor) -> np.ndarray:
    """How often each level meets each |symbol|: (LEVELS, MAX_RADIUS + 2), larger ones in the last
    column."""
    level = level_position(log_scale).long().flatten()
    magnitude = symbols.abs().clamp(max=MAX_RADIUS + 1).long().flatten()
    shape = (LEVELS, MAX_RADIUS + 2)
    counts = torch.bincount(level * shape[1] + magnitude, minlength=shape[0] * shape[1])
    return counts.view(shape).cpu().numpy()


def build_tables(
    weight: float, ratio: float, skip_scale: float, counts: np.ndarray | None = None
) -> Tables:
    """Tables of a trained model. Run once, at export; loading never rebuilds them.

    ``skip_scale``: levels whose scale lies under it are not coded. ``counts`` of
    ``count_magnitudes`` are joined to the mixture, both signs alike.
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
        mass = np.append(mass, max(0.0, 1.0 - mass.sum()))
        if counts is not None:
            mass = MIXTURE_COUNT * mass + _signed(counts[level], int(radius[level]))
        parts.append(_integer_frequencies(mass))
    return Tables(radius, np.concatenate(parts), skip)


def _signed(magnitudes: np.ndarray, radius: int) -> np.ndarray:
    """Counts of the symbols -radius..radius and of the escape from counts of magnitudes."""
    half = magnitudes[1 : radius + 1] / 2
    escapes = magnitudes[radius + 1 :].sum()
    return np.concatenate([half[::-1], magnitudes[:1], half, [escapes]])


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
