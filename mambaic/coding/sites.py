"""Which latents one step of the coding order covers."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from mambaic_kernels import grids
from mambaic_kernels.grids import Grid


class Lattice(enum.Enum):
    """Positions that one step covers, as ``mambaic_kernels.grids``.

    What is coded at a step are rows (B, n, C): channels last, positions in ascending order.
    """

    EVERY = (grids.EVERY,)  # of maps of any size; the others need sides that are multiples of 4
    ANCHOR = (Grid(0, 0, 2), Grid(1, 1, 2))
    NON_ANCHOR = (Grid(0, 1, 2), Grid(1, 0, 2))
    # the anchors again, coarse to fine: each step lies between the ones before it
    FOURTH = (Grid(0, 0, 4),)
    FOURTH_CENTRE = (Grid(2, 2, 4),)
    SECOND = (Grid(0, 2, 4), Grid(2, 0, 4))
    SECOND_CENTRE = (Grid(1, 1, 2),)

    def take(self, full: Tensor) -> Tensor:
        """What a map (B, C, h, w) holds here: rows (B, n, C)."""
        return grids.take(full, self.value)

    def put(self, rows: Tensor, size: tuple[int, int]) -> Tensor:
        """A map (B, C, *size) of rows (B, n, C), zero elsewhere: the inverse of ``take``."""
        return grids.put(rows, size, self.value)


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


def in_order(rows: Tensor) -> Tensor:
    """Rows (B, n, C) in coding order (channel, then position), (B, C * n)."""
    return rows.mT.flatten(1)


def as_rows(ordered: Tensor, channels: int) -> Tensor:
    """Inverse of ``in_order``."""
    return ordered.view(len(ordered), channels, -1).mT


# hyperlatent, latent, and the finest colours of the wavelet's second and first level
Latent = Literal["z", "y", "colour2", "colour1"]


@dataclass(frozen=True)
class Site:
    """Latents coded in one step: ``channels`` of ``latent`` on one lattice, which may be a
    sub-group ``of`` another site."""

    latent: Latent
    channels: slice
    lattice: Lattice = Lattice.EVERY
    of: Site | None = None

    def split(self, count: int) -> list[Site]:
        """``count`` sub-groups of equal width."""
        first, stop = self.channels.start, self.channels.stop
        width = (stop - first) // count
        return [
            replace(self, channels=slice(start, start + width), of=self)
            for start in range(first, stop, width)
        ]

    @property
    def begins(self) -> bool:
        """True unless sub-groups of the same site come before."""
        return self.of is None or self.channels.start == self.of.channels.start

    def take(self, full: Tensor) -> Tensor:
        """What a map of all channels (B, M, h, w) holds at the site: rows (B, n, C)."""
        return self.lattice.take(full[:, self.channels])
