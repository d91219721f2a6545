"""Latents of large pictures to pixels, piece by piece, without seams and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from mambaic.container.fields import LATENT_STRIDE, latent_size
from mambaic.models.model import MambaIC
from mambaic.models.wavelet_transforms import WaveletTransform
from mambaic.nn.wavelet import BLOCKS
from mambaic.reconstruction.grain import Grain
from mambaic.reconstruction.post_filter import AROUND, PostFilter, Reconstruction
from mambaic.reconstruction.rotation import IDENTITY, Rotation
from mambaic.tiling.boxes import Box, grow, in_pixels, inside, overlap, pieces
from mambaic.tiling.memory import return_memory
from mambaic_kernels import transfers


@torch.no_grad()
def reconstruct(
    model: MambaIC,
    latents: Tensor,
    quality: float,
    box: Box,
    outer: Box,
    rotation: Rotation = IDENTITY,
    *,
    in_bfloat16: bool = False,
) -> Reconstruction:
    """Pixels of a box from the latents of ``outer`` around it: y_hat, after its M channels the
    squared error to expect of each 4x4 pixels, (1, M + BLOCKS**2, h, w), and after these, where
    there are some, the finest colours. ``in_bfloat16``: g_s is, which tells an encoder enough."""
    y_hat, error, colours = latents.tensor_split(
        [model.config.M, model.config.M + BLOCKS**2], dim=1
    )
    where = (..., *in_pixels(box, outer))
    transform = model.transform if in_bfloat16 else model.coding_transform
    with torch.autocast(y_hat.device.type, dtype=torch.bfloat16, enabled=in_bfloat16):
        x_hat = transform.g_s(y_hat, y_hat.new_tensor([quality]))
    if colours.shape[1] and isinstance(model.transform, WaveletTransform):
        x_hat = x_hat + model.transform.reconstruct_colours(colours, quality)
    x_hat = x_hat[where]
    x_hat = rotation.rotate_back(x_hat)[0].clamp(0, 1)
    # interpolated with what lies around the box, so that pieces agree
    variance = F.pixel_shuffle(error, BLOCKS)
    variance = F.interpolate(variance, scale_factor=LATENT_STRIDE // BLOCKS, mode="bilinear")
    return Reconstruction(x_hat, variance[0, 0][where].sqrt())


class Synthesis:
    """Turns decoded latent tiles into pixels, keeping only the rows that a later piece needs."""

    def __init__(
        self,
        model: MambaIC,
        width: int,
        height: int,
        grid: list[Box],
        quality: float,
        rotation: Rotation,
        post_filter: PostFilter,
        grain: Grain | None = None,
    ) -> None:
        self._model = model
        self._grid = grid
        self._quality = quality
        self._rotation = rotation
        self._filter = post_filter
        self._grain = grain
        self._size = latent_size(width, height)
        self._tiles: dict[int, tuple[Box, Tensor]] = {}  # what is left of each tile
        self.pixels = np.empty((height, width, 3), dtype=np.uint8)

    def run(self, decode: Callable[[int], Tensor]) -> Iterator[tuple[int, int]]:
        """Decode and place everything; yields (pieces done, pieces in all). ``decode(i)`` gives
        the latents of tile i, as ``reconstruct`` takes them, once."""
        picture = (0, 0, *self._size)
        halo = self._model.config.halo
        parts = pieces(picture, halo)
        for step, piece in enumerate(parts):
            outer = grow(piece, halo, picture)
            self._forget(outer[0])
            for i, tile in enumerate(self._grid):
                if i not in self._tiles and overlap(tile, outer):
                    self._tiles[i] = tile, decode(i)
            self._place(piece, outer, self._assemble(outer))
            if len(parts) > 1:
                return_memory()
            yield step + 1, len(parts)

    def _forget(self, above: int) -> None:
        """Drop what lies above a row of latents: pieces go from top to bottom."""
        for i, (box, latents) in list(self._tiles.items()):
            gone = min(above - box[0], box[2])
            if gone > 0:
                left = (box[0] + gone, box[1], box[2] - gone, box[3])
                self._tiles[i] = left, latents[..., gone:, :].clone()

    def _assemble(self, outer: Box) -> Tensor:
        first = next(iter(self._tiles.values()))[1]
        latents = first.new_zeros(1, first.shape[1], outer[2], outer[3])
        for box, tile in self._tiles.values():
            if (common := overlap(box, outer)) is not None:
                latents[(..., *inside(common, outer))] = tile[(..., *inside(common, box))]
        return latents

    def _place(self, box: Box, outer: Box, latents: Tensor) -> None:
        around = grow(box, -(-AROUND // LATENT_STRIDE), outer)
        reconstruction = reconstruct(
            self._model, latents, self._quality, around, outer, self._rotation
        )
        x_hat = self._filter.apply(reconstruction).clamp(0, 1)
        if self._grain is not None:
            place = around[0] * LATENT_STRIDE, around[1] * LATENT_STRIDE
            x_hat = self._grain.add(reconstruction._replace(x_hat=x_hat), *place).clamp(0, 1)
        x_hat = x_hat[(..., *in_pixels(box, around))].mul(255).round().to(torch.uint8)
        top, left = box[0] * LATENT_STRIDE, box[1] * LATENT_STRIDE
        target = self.pixels[top : top + x_hat.shape[1], left : left + x_hat.shape[2]]
        visible = rearrange(x_hat[:, : target.shape[0], : target.shape[1]], "c h w -> h w c")
        target[:] = transfers.to_host(visible.contiguous())
