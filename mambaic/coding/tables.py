"""Integer frequency tables of the scale mixture, frozen in the checkpoint.

A latent's residual is distributed as weight * N(0, scale) + (1 - weight) * N(0, ratio * scale).
``weight`` and ``ratio`` are learned once for the whole model; the scale of each latent picks one of
LEVELS tables, of the set of whole numbers or of the one of its place on a path through the trellis
(``mambaic.coding.quantiser``): what a search chooses depends on the class of the state, and on how
freely the next latent can be chosen. What is priced while it learns is a noisy residual, not a
quantised one, so the tables are then moved to what the symbols of photographs are counted to be.
Format section: docs/format.md, "Tables".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mambaic_kernels.mixture.reference import mixture_mass
from mambaic_kernels.tcq.cpu import CLASSES

# Ranges of the level of the coded latent that comes next in a slice, by their lower bounds; of the
# slice's last one its own level counts.
BOUNDS = np.array([9, 13, 19])
RANGES = len(BOUNDS) + 1
WHOLE, TRELLIS = 0, 1  # sets of tables: of whole numbers, then of every class, range by range
SETS = TRELLIS + CLASSES * RANGES
SPACING = 1.75  # of the trellis's two quantisers
LEVELS = 64
SCALE_MIN, SCALE_MAX = 0.11, 256.0
LOG_MIN, LOG_MAX = math.log(SCALE_MIN), math.log(SCALE_MAX)
LOG_STEP = (LOG_MAX - LOG_MIN) / (LEVELS - 1)
SCALES = np.exp(LOG_MIN + np.arange(LEVELS) * LOG_STEP)
# latents of a smaller scale are not coded: at a spacing of 1.75 few of them would be anything but 0
# (docs/training.md, "Trellis")
SKIP_SCALE = 0.2
SKIP = int(np.sum(SCALES < SKIP_SCALE))
PRECISION = 16  # frequencies of one table sum to 2 ** PRECISION
MAX_RADIUS = 256
# how many counted symbols of a level the learned mixture is worth to those of a quantiser, what is
# found so to those of each class, and that to those of each range
MIXTURE_COUNT = 256


def level_position(log_scale: Tensor) -> Tensor:
    """Continuous table position: level k covers [k, k + 1). Clamped to the first and last."""
    return ((log_scale - LOG_MIN) / LOG_STEP + 0.5).clamp(0.0, LEVELS - 1e-3)


def values(symbols: Tensor, kind: Tensor) -> Tensor:
    """What symbols of the sets ``kind`` stand for, in units of the latents."""
    spacing = torch.where(kind == WHOLE, 1.0, SPACING).to(symbols)
    return spacing * (symbols - 0.5 * symbols.sign() * is_odd(kind))


def is_odd(kind: Any) -> Any:
    """Whether sets (a number, or numbers) are of odd states."""
    return (kind >= TRELLIS) & ((kind - TRELLIS) // RANGES % 2 == 1)


EVEN, ODD = (
    np.flatnonzero((is_odd(np.arange(SETS)) == odd) & (np.arange(SETS) >= TRELLIS))
    for odd in (False, True)
)


def next_range(levels: np.ndarray) -> np.ndarray:
    """Ranges (n,) that count for the coded latents of a slice, of levels (n,) in coding order."""
    return np.searchsorted(BOUNDS, np.append(levels[1:], levels[-1:]), side="right")


@dataclass(frozen=True, eq=False)
class Tables:
    """Frequencies of the symbols -radius..radius, then of the escape, for every set and level.

    ``frequencies`` holds the tables one after the other, set by set; levels under ``skip`` are not
    coded at all: their symbols are zero.
    """

    radius: np.ndarray  # (SETS * LEVELS,) int32
    frequencies: np.ndarray  # (sum(2 * radius + 2),) int32
    skip: int

    def __deepcopy__(self, memo: dict[int, object]) -> Tables:
        return self  # never changes

    def tensors(self) -> dict[str, Tensor]:
        """All of it, to be stored."""
        return {
            "radius": torch.from_numpy(self.radius),
            "frequencies": torch.from_numpy(self.frequencies),
            "skip": torch.tensor(self.skip),
        }

    @classmethod
    def from_tensors(cls, stored: Mapping[str, Tensor]) -> Tables:
        """What ``tensors`` gave. Raises KeyError if some of it is missing."""
        radius, frequencies = (
            stored[name].numpy().astype(np.int32) for name in ("radius", "frequencies")
        )
        return cls(radius, frequencies, int(stored["skip"]))

    def table(self, kind: int, level: int) -> np.ndarray:
        """Frequencies of one set and level, summing to 2 ** PRECISION."""
        row = kind * LEVELS + level
        start = int(self.starts[row])
        return self.frequencies[start : start + 2 * int(self.radius[row]) + 2]

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each table begins in ``frequencies``."""
        sizes = 2 * self.radius.astype(np.int64) + 2
        return np.cumsum(sizes) - sizes

    @cached_property
    def cumulative(self) -> np.ndarray:
        """Sums of the frequencies of each table, from 0 to 2 ** PRECISION, one table after the
        other: that of row r begins at ``starts[r] + r``. int32."""
        sums = [
            np.concatenate([[0], np.cumsum(self.table(kind, level))])
            for kind in range(SETS)
            for level in range(LEVELS)
        ]
        return np.concatenate(sums).astype(np.int32)

    @cached_property
    def prices(self) -> np.ndarray:
        """Bits of the magnitudes 0..MAX_RADIUS + 1, (SETS, LEVELS, MAX_RADIUS + 2) float32: also at
        levels that are not coded, as if they were."""
        level, symbols = torch.meshgrid(
            torch.arange(LEVELS), torch.arange(MAX_RADIUS + 2), indexing="ij"
        )
        kinds = (torch.full_like(level, kind) for kind in range(SETS))
        likelihoods = [self._likelihood(symbols, level, kind) for kind in kinds]
        return -torch.log2(torch.stack(likelihoods)).float().numpy()

    @cached_property
    def quantiser_prices(self) -> np.ndarray:
        """``prices`` where of a state of the trellis its quantiser alone is known, even or odd:
        (2, LEVELS, MAX_RADIUS + 2) float32."""
        likelihoods = np.exp2(-self.prices)
        return np.stack([-np.log2(likelihoods[kinds].mean(axis=0)) for kinds in (EVEN, ODD)])

    @cached_property
    def grid_prices(self) -> np.ndarray:
        """Bits of the values at 0, 1, 2, ... of a grid, (2, LEVELS, MAX_RADIUS + 2) float32: first
        on that of whole numbers, then on that of both quantisers of the trellis together, half a
        spacing apart. 0, which both offer, costs the mean of both.
        """
        whole, (even, odd) = self.prices[WHOLE], self.quantiser_prices
        fine = np.empty_like(whole)
        half = -(-fine.shape[-1] // 2)
        fine[:, 0::2], fine[:, 1::2] = even[:, :half], odd[:, 1 : fine.shape[-1] // 2 + 1]
        fine[:, 0] = (even[:, 0] + odd[:, 0]) / 2
        return np.stack([whole, fine])

    @lru_cache(maxsize=8)  # noqa: B019 - few tables, and each copy would make a GPU wait
    def on_device(self, name: str, device: torch.device) -> Tensor:
        """One of the arrays of prices as a tensor of a device."""
        return torch.from_numpy(getattr(self, name)).to(device)

    def likelihood(self, symbols: Tensor, level: Tensor, kind: Tensor) -> Tensor:
        """2 ** -bits of what the coder writes for each symbol under the table of its set and level
        (int64), in float64; 1 for levels not coded."""
        return self._likelihood(symbols, level, kind).masked_fill(level < self.skip, 1.0)

    def _likelihood(self, symbols: Tensor, level: Tensor, kind: Tensor) -> Tensor:
        """The same with all levels coded."""
        device = level.device
        radius, start, frequency = (
            torch.from_numpy(v).to(device) for v in (self.radius, self.starts, self.frequencies)
        )
        row = kind * LEVELS + level
        reach = radius[row]
        beyond = symbols.abs() - reach  # over 0: written as the escape, a number and a sign
        place = torch.where(beyond > 0, 2 * reach + 1, (symbols + reach).long())
        mass = frequency[start[row] + place].double() / (1 << PRECISION)
        # a number v takes the length of v + 1 in binary twice, less one; the sign one bit
        length = torch.floor(torch.log2(beyond.clamp(min=1).double())) + 1
        return torch.where(beyond > 0, mass * torch.exp2(-2 * length), mass)


def count_magnitudes(symbols: Tensor, log_scale: Tensor, kind: Tensor) -> np.ndarray:
    """How often each set and level meets each |symbol|: (SETS, LEVELS, MAX_RADIUS + 2), larger ones
    in the last column."""
    row = kind.long() * LEVELS + level_position(log_scale).long()
    magnitude = symbols.abs().clamp(max=MAX_RADIUS + 1).long()
    shape = (SETS, LEVELS, MAX_RADIUS + 2)
    place = (row * shape[2] + magnitude).flatten()
    return torch.bincount(place, minlength=math.prod(shape)).view(shape).cpu().numpy()


def _cell_edges(kind: int, count: int, device: torch.device) -> Tensor:
    """Upper ends (count,) of the cells of the magnitudes 0, 1, ..., in units of the latents."""
    k = torch.arange(count, dtype=torch.float64, device=device)
    edges = k.clamp(min=0.25) if is_odd(kind) else k + 0.5
    return edges * (1.0 if kind == WHOLE else SPACING)


def mixture_magnitudes(weight: Tensor, ratio: Tensor, kind: int, count: int) -> Tensor:
    """P of the symbols of each magnitude, both signs together, 0..count - 1 under the mixture:
    (LEVELS, count) float64. ``weight`` and ``ratio`` are 0-dim."""
    level = torch.arange(LEVELS, dtype=torch.float64, device=weight.device)
    scale = torch.exp(LOG_MIN + level * LOG_STEP)[:, None]
    upper = _cell_edges(kind, count, weight.device)
    lower = torch.cat([-upper[:1], upper[:-1]])
    width = upper - lower
    centre = (upper + lower) / 2
    mass = mixture_mass(centre / width, scale / width, weight.double(), ratio.double())
    return torch.cat([mass[:, :1], 2 * mass[:, 1:]], dim=1)


def build_tables(weight: float, ratio: float, counts: np.ndarray | None = None) -> Tables:
    """Tables of a trained model. Run once, at export; loading never rebuilds them.

    ``counts`` of ``count_magnitudes`` are joined to the mixture, both signs alike.
    """
    w, r = torch.tensor(weight, dtype=torch.float64), torch.tensor(ratio, dtype=torch.float64)
    pools = [] if counts is None else [*_pools(counts), counts]
    radius, parts = [], []
    for kind in range(SETS):
        masses = mixture_magnitudes(w, r, kind, MAX_RADIUS + 1).numpy()
        spacing = 1.0 if kind == WHOLE else SPACING
        for level, scale in enumerate(SCALES):
            reach = min(MAX_RADIUS, max(1, math.ceil(4.5 * scale / spacing * max(1.0, ratio))))
            inside = masses[level, : reach + 1]
            mass = _signed(np.append(inside, max(0.0, 1.0 - inside.sum())), reach)
            for pool in pools:
                mass = MIXTURE_COUNT / mass.sum() * mass + _signed(pool[kind, level], reach)
            radius.append(reach)
            parts.append(_integer_frequencies(mass))
    return Tables(np.array(radius, dtype=np.int32), np.concatenate(parts), SKIP)


def _pools(counts: np.ndarray) -> list[np.ndarray]:
    """For every set the counts of all sets of its quantiser, and of all of its class."""
    classes = [slice(first, first + RANGES) for first in range(TRELLIS, SETS, RANGES)]
    pools = []
    for kinds_of_a_pool in ((EVEN, ODD), classes):
        pool = np.zeros_like(counts)
        for kinds in kinds_of_a_pool:
            pool[kinds] = counts[kinds].sum(axis=0)
        pools.append(pool)
    return pools


def _signed(magnitudes: np.ndarray, radius: int) -> np.ndarray:
    """Of the symbols -radius..radius and of the escape from what belongs to magnitudes."""
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
