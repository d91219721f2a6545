"""What an encoder codes the finest colours of a tile from.

They are the error of g_s in the finest bands, so the encoder reconstructs a tile before it codes
them. The wavelet coefficients of most pictures show beforehand that they cannot pay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mambaic.entropy_model.colour_blocks import BLOCK, Known, promising
from mambaic.models.model import MambaIC
from mambaic.models.wavelet_transforms import WaveletTransform
from mambaic.reconstruction.rotation import Rotation
from mambaic.tiling.analysis import read_region
from mambaic.tiling.boxes import Box, cut, grow, in_pixels, inside, pieces

# as LEAST_SHARE in ``colour_blocks``, of the picture's own bands: what g_s leaves of them is less
LEAST_SHARE = 0.45
# Qualities by which they are coded more coarsely than the picture, at tune 0 and 1: most of them
# are zero, for which a larger step is cheaper, and the eye sees them less than brightness as fine
# (docs/design/finest-colours.md).
LAGS = 10.0, 25.0


def colour_lag(tune: float) -> int:
    """How many qualities the finest colours are coded more coarsely than the picture."""
    psnr, eye = LAGS
    return round((1 - tune) * psnr + tune * eye)


class Colours(NamedTuple):
    """Finest colours of a tile of a picture (H, W, 3) uint8; a ``ColourSource``."""

    model: MambaIC
    transform: WaveletTransform
    pixels: np.ndarray
    tile: Box
    rotation: Rotation

    @property
    def known(self) -> Known:
        return self.model.known_colours(colour_lag(self.model.tune))

    @torch.no_grad()
    def missed(self, y_hat: Tensor, quality: float) -> Mapping[str, Tensor]:
        """Bands of what g_s misses; zero beyond the picture."""
        rows, columns = self.tile[2] * 16, self.tile[3] * 16
        left = y_hat.new_zeros(1, 3, rows, columns)
        q = y_hat.new_tensor([quality])
        for piece in pieces(self.tile, self.model.config.halo):
            outer = grow(piece, self.model.config.halo, self.tile)
            x_hat = self.model.coding_transform.g_s(y_hat[(..., *inside(outer, self.tile))], q)
            x = self.rotation.rotate(read_region(self.pixels, piece).to(y_hat.device))
            left[(..., *in_pixels(piece, self.tile))] = x - x_hat[(..., *in_pixels(piece, outer))]
        left[..., max(0, self.pixels.shape[0] - 16 * self.tile[0]) :, :] = 0
        left[..., max(0, self.pixels.shape[1] - 16 * self.tile[1]) :] = 0
        return self.transform.finest_colours(left, quality)


@torch.no_grad()
def colours_worth_a_try(
    model: MambaIC, pixels: np.ndarray, tile: Box, rotation: Rotation, quality: float
) -> Colours | None:
    """Finest colours of a tile; None if those of no block may pay at a stretched quality."""
    transform = model.transform
    if model.entropy_model.fine is None or not isinstance(transform, WaveletTransform):
        return None
    for block in cut(tile, BLOCK):
        x = rotation.rotate(read_region(pixels, block))
        if promising(transform.finest_colours(x, quality), LEAST_SHARE):
            return Colours(model, transform, pixels, tile, rotation)
    return None
