"""Integer frequency tables of the scale mixture, frozen in the checkpoint.

A residual is distributed as weight * N(0, scale) + (1 - weight) * N(0, ratio * scale). ``weight``
and ``ratio`` are learned once for the whole model. A *scale index* (one of SCALE_COUNT) and a
*table context* pick the table of a latent. The context is ROUNDED for z; for y it is the class of
the TCQ state and the range of the next scale index, as both decide which symbols a search chooses.
Training rates noisy residuals, not quantised ones, so the tables are then fitted to symbols counted
on photographs. Format section: docs/format.md, "Tables".
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

from mambaic_kernels.coding_order.reference import Scales
from mambaic_kernels.entropy_coder import sub_groups
from mambaic_kernels.mixture.reference import mixture_mass
from mambaic_kernels.tcq.cpu import CLASSES

# Lower bounds of the ranges of the next coded latent's scale index. The last latent of a sub-group
# counts its own index.
BOUNDS = np.array([9, 13, 19])
RANGES = len(BOUNDS) + 1
ROUNDED, TCQ = 0, 1  # table contexts: integers, then every class of TCQ states, range by range
CONTEXTS = TCQ + CLASSES * RANGES
SPACING = 1.75  # of the two TCQ quantisers
SCALE_COUNT = 64
SCALE_MIN, SCALE_MAX = 0.11, 256.0
LOG_MIN, LOG_MAX = math.log(SCALE_MIN), math.log(SCALE_MAX)
LOG_STEP = (LOG_MAX - LOG_MIN) / (SCALE_COUNT - 1)
INDICES = Scales(LOG_MIN, LOG_STEP, SCALE_COUNT - 1e-3)
SCALES = np.exp(LOG_MIN + np.arange(SCALE_COUNT) * LOG_STEP)
# latents of a smaller scale are not coded: at a spacing of 1.75 few of them would be anything but 0
# (docs/design/quantisation.md)
SKIP_SCALE = 0.2
SKIP = int(np.sum(SCALES < SKIP_SCALE))
PRECISION = 16  # frequencies of one table sum to 2 ** PRECISION
MAX_RADIUS = 256
# Pseudo-counts of each coarser estimate: mixture -> quantiser -> class -> range
MIXTURE_COUNT = 256


def scale_position(log_scale: Tensor) -> Tensor:
    """Continuous scale index: index k covers [k, k + 1). Clamped to the first and last."""
    return INDICES.position(log_scale)


def values(symbols: Tensor, context: Tensor) -> Tensor:
    """Values of symbols in their table contexts, in units of the latents."""
    spacing = 1 + (SPACING - 1) * (context != ROUNDED).to(symbols.dtype)
    return spacing * (symbols - 0.5 * symbols.sign() * is_odd(context))


def is_odd(context: Any) -> Any:
    """Whether table contexts (one or an array) belong to odd TCQ states."""
    return (context >= TCQ) & ((context - TCQ) // RANGES % 2 == 1)


EVEN, ODD = (
    np.flatnonzero((is_odd(np.arange(CONTEXTS)) == odd) & (np.arange(CONTEXTS) >= TCQ))
    for odd in (False, True)
)


# per context: the distance of two values, and by how much those of odd states are nearer to 0
SPACINGS = np.where(np.arange(CONTEXTS) == ROUNDED, 1.0, SPACING).astype(np.float32)
SHIFTS = (0.5 * SPACINGS * is_odd(np.arange(CONTEXTS))).astype(np.float32)
RANGE_OF = np.searchsorted(BOUNDS, np.arange(SCALE_COUNT), side="right")  # of a scale index


def values_in(symbols: np.ndarray, contexts: np.ndarray) -> np.ndarray:
    """``values`` of arrays, float32."""
    out = np.empty(symbols.shape, dtype=np.float32)
    sub_groups.values(symbols.reshape(-1), contexts.reshape(-1), SPACINGS, SHIFTS, out.reshape(-1))
    return out


@dataclass(frozen=True, eq=False)
class Tables:
    """Frequencies of the symbols -radius..radius, then of the escape, by context and scale index.

    ``frequencies`` holds the tables one after the other, context by context. Latents of a scale
    index under ``skip`` are not coded: their symbols are zero.
    """

    radius: np.ndarray  # (CONTEXTS * SCALE_COUNT,) int32
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

    def table(self, context: int, index: int) -> np.ndarray:
        """Frequencies of one context and scale index, summing to 2 ** PRECISION."""
        row = context * SCALE_COUNT + index
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
            np.concatenate([[0], np.cumsum(self.table(context, index))])
            for context in range(CONTEXTS)
            for index in range(SCALE_COUNT)
        ]
        return np.concatenate(sums).astype(np.int32)

    @cached_property
    def rates(self) -> np.ndarray:
        """Rate table: bits of the magnitudes 0..MAX_RADIUS + 1, (CONTEXTS, SCALE_COUNT,
        MAX_RADIUS + 2) float32. Skipped scale indices have rates too."""
        index, symbols = torch.meshgrid(
            torch.arange(SCALE_COUNT), torch.arange(MAX_RADIUS + 2), indexing="ij"
        )
        contexts = (torch.full_like(index, context) for context in range(CONTEXTS))
        likelihoods = [self._likelihood(symbols, index, context) for context in contexts]
        return -torch.log2(torch.stack(likelihoods)).float().numpy()

    @cached_property
    def quantiser_rates(self) -> np.ndarray:
        """Mean rates of the even and of the odd TCQ states, (2, SCALE_COUNT, MAX_RADIUS + 2)
        float32."""
        likelihoods = np.exp2(-self.rates)
        return np.stack([-np.log2(likelihoods[contexts].mean(axis=0)) for contexts in (EVEN, ODD)])

    @cached_property
    def grid_rates(self) -> np.ndarray:
        """Bits of the values 0, 1, 2, ... of a grid, (2, SCALE_COUNT, MAX_RADIUS + 2) float32: the
        integers, then the union of both TCQ quantisers, whose values are half a spacing apart. 0,
        which both offer, costs the mean of both.
        """
        whole, (even, odd) = self.rates[ROUNDED], self.quantiser_rates
        fine = np.empty_like(whole)
        half = -(-fine.shape[-1] // 2)
        fine[:, 0::2], fine[:, 1::2] = even[:, :half], odd[:, 1 : fine.shape[-1] // 2 + 1]
        fine[:, 0] = (even[:, 0] + odd[:, 0]) / 2
        return np.stack([whole, fine])

    @lru_cache(maxsize=8)  # noqa: B019 - few tables, and each copy would make a GPU wait
    def on_device(self, name: str, device: torch.device) -> Tensor:
        """One of the rate tables as a tensor of a device."""
        return torch.from_numpy(getattr(self, name)).to(device)

    def likelihood(self, symbols: Tensor, index: Tensor, context: Tensor) -> Tensor:
        """2 ** -bits of each symbol under the table of its context and scale index (int64),
        float64; 1 where it is skipped."""
        return self._likelihood(symbols, index, context).masked_fill(index < self.skip, 1.0)

    def _likelihood(self, symbols: Tensor, index: Tensor, context: Tensor) -> Tensor:
        """``likelihood`` without skipping."""
        device = index.device
        radius, start, frequency = (
            torch.from_numpy(v).to(device) for v in (self.radius, self.starts, self.frequencies)
        )
        row = context * SCALE_COUNT + index
        reach = radius[row]
        beyond = symbols.abs() - reach  # over 0: written as the escape, a number and a sign
        place = torch.where(beyond > 0, 2 * reach + 1, (symbols + reach).long())
        mass = frequency[start[row] + place].double() / (1 << PRECISION)
        # a number v takes the length of v + 1 in binary twice, less one; the sign one bit
        length = torch.floor(torch.log2(beyond.clamp(min=1).double())) + 1
        return torch.where(beyond > 0, mass * torch.exp2(-2 * length), mass)


def count_magnitudes(symbols: Tensor, log_scale: Tensor, context: Tensor) -> np.ndarray:
    """Counts of each |symbol| by context and scale index, (CONTEXTS, SCALE_COUNT, MAX_RADIUS + 2);
    larger ones are in the last column."""
    row = context.long() * SCALE_COUNT + scale_position(log_scale).long()
    magnitude = symbols.abs().clamp(max=MAX_RADIUS + 1).long()
    shape = (CONTEXTS, SCALE_COUNT, MAX_RADIUS + 2)
    place = (row * shape[2] + magnitude).flatten()
    return torch.bincount(place, minlength=math.prod(shape)).view(shape).cpu().numpy()


def _cell_edges(context: int, count: int, device: torch.device) -> Tensor:
    """Upper ends (count,) of the cells of the magnitudes 0, 1, ..., in units of the latents."""
    k = torch.arange(count, dtype=torch.float64, device=device)
    edges = k.clamp(min=0.25) if is_odd(context) else k + 0.5
    return edges * (1.0 if context == ROUNDED else SPACING)


def mixture_magnitudes(weight: Tensor, ratio: Tensor, context: int, count: int) -> Tensor:
    """P of the symbols of each magnitude, both signs together, 0..count - 1 under the mixture:
    (SCALE_COUNT, count) float64. ``weight`` and ``ratio`` are 0-dim."""
    index = torch.arange(SCALE_COUNT, dtype=torch.float64, device=weight.device)
    scale = torch.exp(LOG_MIN + index * LOG_STEP)[:, None]
    upper = _cell_edges(context, count, weight.device)
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
    for context in range(CONTEXTS):
        masses = mixture_magnitudes(w, r, context, MAX_RADIUS + 1).numpy()
        spacing = 1.0 if context == ROUNDED else SPACING
        for index, scale in enumerate(SCALES):
            reach = min(MAX_RADIUS, max(1, math.ceil(4.5 * scale / spacing * max(1.0, ratio))))
            inside = masses[index, : reach + 1]
            mass = _signed(np.append(inside, max(0.0, 1.0 - inside.sum())), reach)
            for pool in pools:
                mass = MIXTURE_COUNT / mass.sum() * mass + _signed(pool[context, index], reach)
            radius.append(reach)
            parts.append(_integer_frequencies(mass))
    return Tables(np.array(radius, dtype=np.int32), np.concatenate(parts), SKIP)


def _pools(counts: np.ndarray) -> list[np.ndarray]:
    """For every context, the counts summed over its quantiser, and over its class."""
    classes = [slice(first, first + RANGES) for first in range(TCQ, CONTEXTS, RANGES)]
    pools = []
    for contexts_of_a_pool in ((EVEN, ODD), classes):
        pool = np.zeros_like(counts)
        for contexts in contexts_of_a_pool:
            pool[contexts] = counts[contexts].sum(axis=0)
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
    # largest remainders take what rounding down left over; ties go to the lower place
    order = np.argsort(-(ideal - counts), kind="stable")
    counts[order[: free - int(counts.sum())]] += 1
    return (counts + 1).astype(np.int32)
