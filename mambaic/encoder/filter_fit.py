"""Least squares of the post-filter: what its taps take of the error of a picture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from mambaic.encoder.filter_rate import Costs
from mambaic.imaging.colour_axes import to_planes
from mambaic.reconstruction.filter_features import Reconstruction
from mambaic.reconstruction.filter_taps import count, write_taps

SUMMED = 1 << 13  # pixels whose products are summed in float32; the sums are in float64
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

    def __init__(self, planes: int = 3) -> None:
        """``planes``: 1 of a gray picture, whose colours nobody sees."""
        counts = [count(own) for own in range(planes)]
        self.gram = [torch.zeros(taps, taps, dtype=torch.float64) for taps in counts]
        self.cross = [torch.zeros(taps, dtype=torch.float64) for taps in counts]
        self.pixels = 0

    def add(self, reconstruction: Reconstruction, x: Tensor) -> None:
        """A region as in ``Comparison``."""
        error = to_planes(x) - reconstruction.planes
        height, width = reconstruction.deviation.shape
        step = max(1, SUMMED // width) if error.device.type == "cpu" else height
        counts = [len(cross) for cross in self.cross]
        # one for all rows: fresh memory is slower than what is written into it
        space = error.new_empty(sum(counts), step, width)
        for top in range(0, height, step):
            rows = slice(top, min(top + step, height))
            taps = space[:, : rows.stop - top]
            write_taps(reconstruction, len(counts), rows, taps)
            for own, of_plane in enumerate(taps.flatten(1).split(counts)):
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
