"""The post-filter: coefficients in a file that fit the output of g_s to its picture.

Over all pictures nothing around a pixel predicts the error that g_s leaves. In one picture it does:
edges and grain are a little too soft or too sharp, colours a little too faint. So the encoder
reconstructs the picture, too, and finds the multiple of each of TAPS to add by least squares: an
adaptive loop filter as in video codecs ([Tsai2013] doi:10.1109/JSTSP.2013.2271974; clipped
differences: [Taquet2019] doi:10.1109/ICIP.2019.8803448), outside of any loop. Format section:
docs/format.md, "Filter". Its gain: docs/design/filter.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mambaic.imaging.colour_axes import to_colours, to_planes
from mambaic.reconstruction.filter_taps import TAPS
from mambaic_kernels.filter_maps.constants import FACTORS, MAPS, MARGIN
from mambaic_kernels.filter_maps.reference import filter_maps

AROUND = MARGIN  # pixels around a part of a picture that its correction depends on
# what is corrected at once: maps take 30 times the memory of a plane
BAND, THIN_BAND = 64, 16  # rows, on a CPU
GPU_PIXELS = 1 << 22


class Reconstruction(NamedTuple):
    """Output of g_s, R, G and B (3, H, W) in [0, 1], and how far pixels may be expected to be off
    (H, W)."""

    x_hat: Tensor
    deviation: Tensor

    def cut(self, rows: slice, columns: slice) -> Reconstruction:
        """A part of it, whose border pixels are the last ones."""
        return Reconstruction(self.x_hat[:, rows, columns], self.deviation[rows, columns])


class Band(NamedTuple):
    """Some rows of a picture with the maps (9, 3, rows, W) and factors (3, rows, W) of its taps."""

    rows: slice
    maps: Tensor
    factors: Tensor


def bands(reconstruction: Reconstruction, every: int = 1) -> Iterator[Band]:
    """A picture from top to bottom; one of ``every`` bands, which then are thin. On a GPU, which is
    sooner done with all of them than told of each, all together."""
    height, width = reconstruction.deviation.shape
    rows_of_one = BAND if every == 1 else THIN_BAND
    if reconstruction.deviation.device.type != "cpu":
        rows_of_one, every = max(BAND, GPU_PIXELS // width), 1
    planes = F.pad(to_planes(reconstruction.x_hat)[None], [MARGIN] * 4, mode="replicate")[0]
    for top in range(0, height, rows_of_one * every):
        rows = slice(top, min(top + rows_of_one, height))
        around = planes[:, top : rows.stop + 2 * MARGIN]
        yield Band(rows, *filter_maps(around, reconstruction.deviation[rows]))


@dataclass(frozen=True)
class PostFilter:
    """``coefficients`` of ``TAPS``, of the first planes or of all."""

    coefficients: tuple[tuple[float, ...], ...] = ()

    def apply(self, reconstruction: Reconstruction) -> Tensor:
        """R, G and B (3, H, W) of a reconstruction, corrected; not clamped."""
        if not self.coefficients:
            return reconstruction.x_hat
        corrected = torch.empty_like(reconstruction.x_hat)
        weights = self._weights.to(corrected)
        for rows, maps, factors in bands(reconstruction):
            sums = weights.flatten(0, 1) @ maps.flatten(0, 1).flatten(1)
            by_factor = sums.view(3, len(FACTORS), *factors.shape[1:])
            added = (by_factor * factors).sum(dim=1)
            torch.add(reconstruction.x_hat[:, rows], added, out=corrected[:, rows])
        return corrected

    @property
    def _weights(self) -> Tensor:
        """What maps of all planes add to R, G and B, by factors: (3, factors, maps)."""
        weights = torch.zeros(3, len(FACTORS), 3 * len(MAPS), dtype=torch.float32)
        for own, (taps, values) in enumerate(zip(TAPS, self.coefficients, strict=False)):
            for tap, value in zip(taps, values, strict=True):
                weights[own, tap.factor, 3 * tap.map + tap.plane] = value
        return to_colours(weights)
