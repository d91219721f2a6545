"""The post-filter: coefficients in a file that fit the output of g_s to its picture.

Over all pictures nothing around a pixel predicts the error that g_s leaves. In one picture it does:
edges and grain are a little too soft or too sharp, colours a little too faint. So the encoder
reconstructs the picture, too, and finds the multiple of each of TAPS to add by least squares: an
adaptive loop filter as in video codecs ([Tsai2013] doi:10.1109/JSTSP.2013.2271974; clipped
differences: [Taquet2019] doi:10.1109/ICIP.2019.8803448), outside of any loop. Format section:
docs/format.md, "Filter". Its gain: docs/design/filter.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mambaic.imaging.colour_axes import to_colours
from mambaic.reconstruction.filter_features import AROUND, Reconstruction
from mambaic.reconstruction.filter_taps import weighted_sums

BAND = 512  # rows that are corrected at once: taps take many times the memory of a picture


@dataclass(frozen=True)
class PostFilter:
    """``coefficients`` of ``TAPS``, of the first planes or of all."""

    coefficients: tuple[Tensor, ...] = ()

    def apply(self, reconstruction: Reconstruction) -> Tensor:
        """R, G and B (3, H, W) of a reconstruction, corrected; not clamped."""
        if not self.coefficients:
            return reconstruction.x_hat
        corrected = torch.empty_like(reconstruction.x_hat)
        for top in range(0, corrected.shape[1], BAND):
            first = max(0, top - AROUND)
            band = reconstruction.cut(slice(first, top + BAND + AROUND), slice(None))
            corrected[:, top : top + BAND] = self._apply(band)[:, top - first :][:, :BAND]
        return corrected

    def _apply(self, reconstruction: Reconstruction) -> Tensor:
        added = torch.zeros_like(reconstruction.planes)
        coefficients = [of_plane.tolist() for of_plane in self.coefficients]
        added[: len(coefficients)] = weighted_sums(reconstruction, coefficients)
        return reconstruction.x_hat + to_colours(added)
