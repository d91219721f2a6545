"""The finest colours: what the groups of the entropy model leave out of the wavelet.

Of both colour planes the first level (6 bands at half the picture's resolution) and of the second
what no group has (4 bands at a quarter) are coded as what g_s draws wrongly there. They see the
brightness, which is decoded in full at both levels, edges of the picture a level coarser, and
each other: the first colour before the second, even positions of a checkerboard before odd ones.
Colours change where the brightness does, by the same share of it in a neighbourhood: what that
share, as it is a level coarser, makes of a band of the brightness is offered to the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import CHECKERBOARD, Latent, Lattice, Site
from mambaic.coding.step_coder import StepCoder
from mambaic.config import ModelConfig
from mambaic.nn.blocks import FeatureConv2d, GridFeatureConv2d, QualityModulation, RowConv2d
from mambaic.nn.functions import Energy, Grid
from mambaic.nn.products import product
from mambaic_kernels import grids

BANDS = 3  # of a plane at each level
# (plane, band) of what is coded at each level: colour planes are 1 and 2
CODED = {
    2: ((1, 2), (2, 0), (2, 1), (2, 2)),
    1: ((1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)),
}
NAMES: dict[int, Latent] = {2: "colour2", 1: "colour1"}
EDGES = 9  # maps of what changes a level coarser: three differences of three planes
AROUND = 5  # positions along a side of the neighbourhood that shares are measured over
TOLD_APART = 145.0  # the highest stretched quality that networks tell from higher ones
LEAST_ENERGY = 0.5  # of the brightness, in squared quantiser steps, for a share to be measured


class Level(NamedTuple):
    """What is known before the finest colours of a level are coded, in steps of the quantiser:
    edges a level coarser (B, EDGES, H, W), the bands (B, 3, 3, H, W), zero where they are not."""

    edges: Tensor
    bands: Tensor

    @classmethod
    def of(cls, planes: Tensor, bands: Tensor) -> Level:
        """Of the picture's planes without the level's own bands, (B, 3, H, W)."""
        return cls(_edges(planes), bands)


def _edges(planes: Tensor) -> Tensor:
    """Differences along rows, along columns, and to the mean around: (B, 9, H, W)."""
    padded = F.pad(planes, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    around = padded[..., 1:-1, 2:] + padded[..., 1:-1, :-2]
    around = around + padded[..., 2:, 1:-1] + padded[..., :-2, 1:-1] - 4 * planes
    return torch.cat([across, down, around], dim=1) / 2


class Shares(nn.Module):
    """Edges -> by what share of the brightness's both colours change, (B, 2, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.energy, self.grid = Energy(), Grid()

    def forward(self, edges: Tensor) -> Tensor:
        light, first, second = (edges[:, plane::3] for plane in range(3))
        products = [self.energy(light * of).sum(dim=1) for of in (light, first, second)]
        sums = _around(torch.stack(products, dim=1))
        count = _around(torch.ones_like(sums[:, :1]))
        return self.grid(sums[:, 1:] / (sums[:, :1] + LEAST_ENERGY * count))


def _around(maps: Tensor) -> Tensor:
    """Sums over the neighbourhood of every position: of its columns, then of its rows."""
    sums = F.pad(maps, (AROUND // 2,) * 4)
    for dim in (-1, -2):
        size = sums.shape[dim] - AROUND + 1
        sums = reduce(torch.add, (sums.narrow(dim, at, size) for at in range(AROUND)))
    return sums


class ColourStep(nn.Module):
    """Prior of some bands at one half of the checkerboard, from the support of all positions and
    the maps of the level, ``before`` of them, that are coded or half coded by now."""

    def __init__(self, before: int, channels: slice, width: int, lattice: Lattice) -> None:
        super().__init__()
        self.channels, self.lattice = channels, lattice
        count = channels.stop - channels.start
        self.spatial = GridFeatureConv2d(before, width) if before else None
        self.mix = RowConv2d(width, width)
        self.out = RowConv2d(width, 3 * count)
        self.act, self.grid = nn.LeakyReLU(0.1), Grid()
        with torch.no_grad():
            self.out.weight.mul_(0.1)
            nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def prior(self, support: Tensor, offered: Tensor, coded: Tensor) -> Prior:
        """``offered`` means of all of the level and bands ``coded`` before, maps (B, C, H, W)."""
        # one grid after the other: half as large maps stay in the cache
        out = [self._out(support, coded, grid) for grid in self.lattice.value]
        mean, log_scale, share = grids.join(out).chunk(3, dim=-1)
        offered = self.grid(share * self.lattice.take(offered[:, self.channels]))
        return Prior(mean + offered, log_scale)

    def _out(self, support: Tensor, coded: Tensor, grid: grids.Grid) -> Tensor:
        """A map of what the networks say at a grid."""
        own = support[(..., *grid.slices)]
        rows = own.permute(0, 2, 3, 1).flatten(1, 2)
        if self.spatial is not None:
            rows = product(self.spatial, coded, (grid,), plus=rows)
        hidden = product(self.mix, self.act(rows), act=self.act)
        found: Tensor = self.out(hidden)
        return found.unflatten(1, own.shape[-2:]).permute(0, 3, 1, 2)


class ColourLevel(nn.Module):
    """Networks of one level; ``more`` maps are known besides those of ``Level``."""

    def __init__(self, level: int, more: int, width: int) -> None:
        super().__init__()
        self.level = level
        coded = CODED[level]
        self.kept = [
            (plane, band) for plane in range(3) for band in range(BANDS)
            if (plane, band) not in coded and (plane == 0 or level > 1)
        ]  # fmt: skip
        known = EDGES + len(self.kept) + len(coded) + more
        self.support = FeatureConv2d(known, width)
        self.modulate = QualityModulation(width)
        self.shares, self.grid = Shares(), Grid()
        first = sum(plane == 1 for plane, _ in coded)
        parts = (slice(0, first), slice(first, len(coded)))
        self.steps = nn.ModuleList(
            ColourStep(part.stop if odd else part.start, part, width, lattice)
            for part in parts
            for odd, lattice in enumerate(CHECKERBOARD)
        )

    def code(self, known: Level, more: Sequence[Tensor], q: Tensor, coder: StepCoder) -> Tensor:
        """Decoded bands of CODED (B, C, H, W), in quantiser steps."""
        shares = self.shares(known.edges)
        kept = torch.stack([known.bands[:, plane, band] for plane, band in self.kept], dim=1)
        coded = CODED[self.level]
        offered = torch.stack(
            [shares[:, plane - 1] * known.bands[:, 0, band] for plane, band in coded], dim=1
        )
        offered = self.grid(offered)
        seen = torch.cat([known.edges, kept, offered, *more], dim=1)
        support = product(self.support, seen, affine=self.modulate.affine(q))
        size = (offered.shape[-2], offered.shape[-1])
        found = offered[:, :0]
        for step in self.steps:
            assert isinstance(step, ColourStep)
            prior = step.prior(support, offered, found)
            site = Site(NAMES[self.level], step.channels, step.lattice)
            rows = step.lattice.put(coder.code_alone(site, prior), size)
            before, half = found.tensor_split([step.channels.start], dim=1)
            found = torch.cat([before, half + rows if half.shape[1] else rows], dim=1)
        return found


class FineColour(nn.Module):
    """Networks of both levels."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.second = ColourLevel(2, 0, config.fine_width)
        self.first = ColourLevel(1, len(CODED[2]), config.fine_width)

    def walk(self, known: Mapping[int, Level], q: Tensor, coder: StepCoder) -> dict[str, Tensor]:
        """Code both levels of a region at the stretched qualities q (B,): decoded bands by name,
        "colour2" (B, 4, 4h, 4w) and "colour1" (B, 6, 8h, 8w)."""
        q = q * (100.0 / TOLD_APART)
        second = self.second.code(known[2], [], q, coder)
        parent = F.interpolate(second, scale_factor=2.0, mode="nearest")
        first = self.first.code(known[1], [parent], q, coder)
        return {NAMES[2]: second, NAMES[1]: first}
