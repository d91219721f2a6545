"""Which latents one step of the coding order covers."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Grid(NamedTuple):
    """Every ``stride``-th row from ``row`` and column from ``column``."""

    row: int
    column: int
    stride: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.row, None, self.stride), slice(self.column, None, self.stride)


class Lattice(enum.Enum):
    """Positions that one step covers, as grids; their union on maps of any size."""

    ANCHOR = (Grid(0, 0, 2), Grid(1, 1, 2))
    NON_ANCHOR = (Grid(0, 1, 2), Grid(1, 0, 2))
    # the anchors again, coarse to fine: each step lies between the ones before it
    FOURTH = (Grid(0, 0, 4),)
    FOURTH_CENTRE = (Grid(2, 2, 4),)
    SECOND = (Grid(0, 2, 4), Grid(2, 0, 4))
    SECOND_CENTRE = (Grid(1, 1, 2),)


CHECKERBOARD = (Lattice.ANCHOR, Lattice.NON_ANCHOR)
COARSE_TO_FINE = (
    Lattice.FOURTH,
    Lattice.FOURTH_CENTRE,
    Lattice.SECOND,
    Lattice.SECOND_CENTRE,
    Lattice.NON_ANCHOR,
)
# rows to the nearest positions of earlier steps, for the steps between its first and its last
DISTANCES = (2, 2, 1)


@dataclass(frozen=True)
class Site:
    """Latents coded in one step: ``channels`` of ``latent`` on one lattice.

    ``lattice=None`` covers every position (used for z). Works for odd heights and widths.
    """

    latent: Literal["y", "z"]
    channels: slice
    lattice: Lattice | None = None

    def mask(self, like: Tensor) -> Tensor:
        """1 where ``like`` (B, C, H, W) is covered, else 0; (1, 1, H, W)."""
        height, width = like.shape[-2:]
        if self.lattice is None:
            return like.new_ones(1, 1, height, width)
        return _mask(height, width, self.lattice, like.dtype, like.device)

    def positions(self, like: Tensor) -> Tensor:
        """Flat positions of ``like`` (B, C, H, W) that are covered, ascending (row-major)."""
        height, width = like.shape[-2:]
        return _positions(height, width, self.lattice, like.device)


@lru_cache(maxsize=32)
def _mask(
    height: int, width: int, lattice: Lattice, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Kept on its device, as positions are: each copy from the host would wait for a GPU."""
    return torch.from_numpy(_covered(height, width, lattice)).to(device, dtype)[None, None]


@lru_cache(maxsize=32)
def _positions(height: int, width: int, lattice: Lattice | None, device: torch.device) -> Tensor:
    if lattice is None:
        return torch.arange(height * width, device=device)
    return torch.from_numpy(np.flatnonzero(_covered(height, width, lattice))).to(device)


@lru_cache(maxsize=128)
def _covered(height: int, width: int, lattice: Lattice) -> np.ndarray:
    covered = np.zeros((height, width), dtype=bool)
    for grid in lattice.value:
        covered[grid.slices] = True
    return covered
