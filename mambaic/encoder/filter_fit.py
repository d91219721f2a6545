"""Least squares of the post-filter: what its taps take of the error of a picture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from mambaic.encoder.filter_rate import Costs
from mambaic.imaging.colour_axes import to_planes
from mambaic.reconstruction.filter_features import Drawn
from mambaic.reconstruction.filter_taps import count, write_terms

SUMMED = 1 << 13  # pixels whose products are summed in float32; the sums are in float64
RIDGE = 1e-6  # terms are told apart as far as float32 tells them apart, and no further


class Comparison(NamedTuple):
    """A region as a decoder draws it and as it is, (3, H, W) in [0, 1]."""

    drawn: Drawn
    x: Tensor

    @property
    def error(self) -> float:
        """Squared, summed over pixels and colours."""
        return float((self.drawn.x_hat - self.x).square().sum())


class Fit:
    """Collects what least squares need, region by region; then finds the filter."""

    def __init__(self, planes: int = 3) -> None:
        """``planes``: 1 of a gray picture, whose colours nobody sees."""
        counts = [count(own) for own in range(planes)]
        self.gram = [torch.zeros(terms, terms, dtype=torch.float64) for terms in counts]
        self.cross = [torch.zeros(terms, dtype=torch.float64) for terms in counts]
        self.pixels = 0

    def add(self, drawn: Drawn, x: Tensor) -> None:
        """A region as in ``Comparison``."""
        error = to_planes(x) - drawn.planes
        height, width = drawn.deviation.shape
        step = max(1, SUMMED // width) if error.device.type == "cpu" else height
        counts = [len(cross) for cross in self.cross]
        # one for all rows: fresh memory is slower than what is written into it
        space = error.new_empty(sum(counts), step, width)
        for top in range(0, height, step):
            rows = slice(top, min(top + step, height))
            terms = space[:, : rows.stop - top]
            write_terms(drawn, len(counts), rows, terms)
            for own, of_plane in enumerate(terms.flatten(1).split(counts)):
                self.gram[own] += _summed(of_plane, of_plane)
                self.cross[own] += _summed(of_plane, error[own, rows].reshape(1, -1))[:, 0]
        self.pixels += x[0].numel()

    @classmethod
    def of(cls, parts: Iterable[Fit]) -> Fit:
        """One of the regions of all of them; at least one."""
        of_regions = list(parts)
        total = cls(len(of_regions[0].gram))
        for part in of_regions:
            for own in range(len(total.gram)):
                total.gram[own] += part.gram[own]
                total.cross[own] += part.cross[own]
            total.pixels += part.pixels
        return total

    def costs(self, weight: float, pixels: int) -> list[Costs]:
        """Of coefficients in a picture of ``pixels``, of which the regions are a part; ``weight``
        bits for a squared error."""
        weight *= pixels / max(1, self.pixels)
        found = []
        for gram, cross in zip(self.gram, self.cross, strict=True):
            ridge = RIDGE * gram.diag() + 1e-12
            found.append(Costs(weight * (gram + torch.diag(ridge)), weight * cross))
        return found


def _summed(a: Tensor, b: Tensor) -> Tensor:
    """Products (m, n) of a (m, pixels) and b (n, pixels), summed over pixels."""
    parts = zip(a.split(SUMMED, dim=1), b.split(SUMMED, dim=1), strict=True)
    return torch.stack([x @ y.T for x, y in parts]).double().sum(dim=0).cpu()
