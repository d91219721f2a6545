"""Least squares of the post-filter: what its taps take of the error of a picture."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from mambaic.encoder.filter_rate import Costs
from mambaic.imaging.colour_axes import to_planes
from mambaic.reconstruction.filter_taps import TAPS
from mambaic.reconstruction.post_filter import Band, Reconstruction, bands

SUMMED = 1 << 13  # pixels whose products are summed in float32; the sums are in float64
PLENTY = 1 << 18  # pixels of a region of which a part tells enough
RIDGE = 1e-6  # taps that float32 cannot tell apart share their weight


class Comparison(NamedTuple):
    """A region as a decoder reconstructs it, and the original (3, H, W) in [0, 1]."""

    reconstruction: Reconstruction
    x: Tensor

    @property
    def error(self) -> float:
        """Squared, summed over pixels and colours."""
        return float((self.reconstruction.x_hat - self.x).square().sum())


class Fit:
    """Collects what least squares need, region by region; then finds the filter."""

    def __init__(self, planes: int = 3, every: int = 1) -> None:
        """``planes``: 1 of a gray picture, whose colours nobody sees. ``every``: in large
        regions one of so many bands of rows is looked at."""
        self._every = every
        self.taps = TAPS[:planes]
        terms = {(tap.factor, tap.map, tap.plane) for taps in self.taps for tap in taps}
        self._terms = sorted(terms)  # which planes share
        self.gram = torch.zeros(len(terms), len(terms), dtype=torch.float64)
        self.cross = torch.zeros(len(terms), planes, dtype=torch.float64)
        self.pixels = 0

    def add(self, reconstruction: Reconstruction, x: Tensor) -> None:
        """A region as in ``Comparison``."""
        error = to_planes(x) - to_planes(reconstruction.x_hat)
        every = self._every if x[0].numel() >= PLENTY else 1
        # sums stay on the device until they are whole: none of them waits for the host
        gram, cross = (of.to(x.device) for of in (self.gram, self.cross))
        for band in bands(reconstruction, every):
            of_band = error[: len(self.taps), band.rows].flatten(1)
            for terms, errors in zip(self._values(band), of_band.split(SUMMED, dim=1), strict=True):
                gram += terms @ terms.T
                cross += terms @ errors.T
            self.pixels += of_band.shape[1]
        self.gram, self.cross = gram.cpu(), cross.cpu()

    def _values(self, band: Band) -> Iterable[Tensor]:
        """Of every term at SUMMED pixels after the other: (terms, pixels)."""
        device = band.maps.device
        groups = itertools.groupby(self._terms, key=lambda term: term[0])
        rows = [
            (factor, torch.tensor([3 * of + plane for _, of, plane in group], device=device))
            for factor, group in groups
        ]
        maps, factors = (x.flatten(0, -3).flatten(1) for x in (band.maps, band.factors))
        parts = zip(maps.split(SUMMED, dim=1), factors.split(SUMMED, dim=1), strict=True)
        for some, by in parts:
            yield torch.cat([some[of] * by[factor] for factor, of in rows])

    @classmethod
    def of(cls, parts: Iterable[Fit]) -> Fit:
        """One of the regions of all of them; at least one."""
        of_regions = list(parts)
        total = cls(len(of_regions[0].taps))
        for part in of_regions:
            total.gram += part.gram
            total.cross += part.cross
            total.pixels += part.pixels
        return total

    def costs(self, weight: float, pixels: int) -> list[Costs]:
        """Of coefficients in a picture of ``pixels``, of which the regions are a part; ``weight``
        bits for a squared error."""
        weight *= pixels / max(1, self.pixels)
        gram = self.gram + torch.diag(RIDGE * self.gram.diag() + 1e-12)
        found = []
        for own, taps in enumerate(self.taps):
            at = torch.tensor([self._terms.index((t.factor, t.map, t.plane)) for t in taps])
            found.append(Costs(weight * gram[at][:, at], weight * self.cross[at, own]))
        return found
