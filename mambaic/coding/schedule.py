"""Which latents one step of the coding order covers."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor


class Lattice(enum.Enum):
    """Positions that one step covers, as a rule on row and column; enough for odd sizes too."""

    ANCHOR = "even row + column"
    NON_ANCHOR = "odd row + column"
    # the anchors again, coarse to fine: each step lies between the ones before it
    FOURTH = "row and column multiples of 4"
    FOURTH_CENTRE = "row and column 2 more than a multiple of 4"
    SECOND = "even row and column, in neither of the above"
    SECOND_CENTRE = "odd row and column"


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
        return _covered(height, width, self.lattice).to(like)[None, None]

    def positions(self, height: int, width: int) -> Tensor:
        """Flat positions covered, ascending (row-major)."""
        if self.lattice is None:
            return torch.arange(height * width)
        return _covered(height, width, self.lattice).flatten().nonzero().flatten()


@lru_cache(maxsize=128)
def _covered(height: int, width: int, lattice: Lattice) -> Tensor:
    row, column = torch.arange(height)[:, None], torch.arange(width)[None, :]
    if lattice is Lattice.ANCHOR:
        return (row + column) % 2 == 0
    if lattice is Lattice.NON_ANCHOR:
        return (row + column) % 2 == 1
    if lattice is Lattice.FOURTH:
        return (row % 4 == 0) & (column % 4 == 0)
    if lattice is Lattice.FOURTH_CENTRE:
        return (row % 4 == 2) & (column % 4 == 2)
    if lattice is Lattice.SECOND:
        return (row % 2 == 0) & (column % 2 == 0) & ((row + column) % 4 == 2)
    return (row % 2 == 1) & (column % 2 == 1)
