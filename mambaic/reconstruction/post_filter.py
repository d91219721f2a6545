"""The post-filter: a few numbers in a file that fit what g_s draws to its picture.

g_s answers for all pictures at once, and over all of them nothing around a pixel tells its error.
In one picture it does: edges and grain are a little too soft or too sharp, colours a little too
faint. So the encoder draws the picture, too, and fits by least squares how much of each of TERMS to
add: an adaptive loop filter as in video codecs ([Tsai2013] doi:10.1109/JSTSP.2013.2271974; clipped
differences: [Taquet2019] doi:10.1109/ICIP.2019.8803448), outside of any loop. Format section:
docs/format.md, "Filter". docs/training.md has what it gains.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mambaic.imaging.colour_axes import to_colours
from mambaic.reconstruction.filter_features import AROUND, Drawn
from mambaic.reconstruction.filter_taps import weighed

BAND = 512  # rows that are corrected at once: terms take many times the memory of a picture


@dataclass(frozen=True)
class PostFilter:
    """``coefficients``: how much of each of ``TERMS`` is added, of the first planes or of all."""

    coefficients: tuple[Tensor, ...] = ()

    def apply(self, drawn: Drawn) -> Tensor:
        """R, G and B (3, H, W) of a drawn picture, corrected; not clamped."""
        if not self.coefficients:
            return drawn.x_hat
        corrected = torch.empty_like(drawn.x_hat)
        for top in range(0, corrected.shape[1], BAND):
            first = max(0, top - AROUND)
            band = drawn.cut(slice(first, top + BAND + AROUND), slice(None))
            corrected[:, top : top + BAND] = self._apply(band)[:, top - first :][:, :BAND]
        return corrected

    def _apply(self, drawn: Drawn) -> Tensor:
        added = torch.zeros_like(drawn.planes)
        coefficients = [of_plane.tolist() for of_plane in self.coefficients]
        added[: len(coefficients)] = weighed(drawn, coefficients)
        return drawn.x_hat + to_colours(added)
