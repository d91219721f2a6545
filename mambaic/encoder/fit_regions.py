"""Regions of a tile that post-filter and grain are fitted to, as a decoder reconstructs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mambaic.config import TRAINED
from mambaic.encoder.filter_fit import Comparison
from mambaic.models.model import MambaIC
from mambaic.nn.precision import multiplies_bfloat16
from mambaic.reconstruction.post_filter import Reconstruction
from mambaic.reconstruction.rotation import IDENTITY, Rotation
from mambaic.tiling.analysis import visible_region
from mambaic.tiling.boxes import Box, cut, grow, inside
from mambaic.tiling.memory import return_memory
from mambaic.tiling.synthesis import reconstruct

# Of every tile so many regions of so many latents a side are reconstructed to fit the filter to: a
# picture of 1.5 megapixels as a whole, of a large one enough.
REGIONS, REGION = 6, 32


class Collector(Protocol):
    """Takes what it needs of one region after the other, as in ``Comparison``."""

    def add(self, reconstruction: Reconstruction, x: Tensor) -> None: ...


def chosen_regions(box: Box, count: int, side: int) -> list[Box]:
    """At most ``count`` regions of at most ``side`` latents a side, spread over ``box``."""
    regions = cut(box, side)
    chosen = sorted({round(at) for at in np.linspace(0, len(regions) - 1, count)})
    return [regions[index] for index in chosen]


@torch.no_grad()
def reconstructed_regions(
    model: MambaIC,
    pixels: np.ndarray,
    tile: Box,
    latents: Tensor,
    quality: float,
    rotation: Rotation = IDENTITY,
) -> Iterator[Comparison]:
    """Regions of a tile, reconstructed from its decoded latents."""
    # beyond TRAINED the error that is left is as small as bfloat16's
    in_bfloat16 = quality <= TRAINED and multiplies_bfloat16(latents.device)
    small = tile[2] * tile[3] <= REGIONS * REGION**2
    regions = [tile] if small else chosen_regions(tile, REGIONS, REGION)
    for region in regions:
        outer = grow(region, model.config.halo // 4, tile)  # what other tiles hold is not at hand
        around = latents[(..., *inside(outer, tile))]
        reconstruction = reconstruct(
            model, around, quality, region, outer, rotation, in_bfloat16=in_bfloat16
        )
        x = visible_region(pixels, region)[0].to(reconstruction.x_hat.device)
        yield Comparison(reconstruction.cut(slice(x.shape[1]), slice(x.shape[2])), x)
        if len(regions) > 1:
            return_memory()


def fit_tile(
    model: MambaIC,
    pixels: np.ndarray,
    tile: Box,
    latents: Tensor,
    quality: float,
    rotation: Rotation,
    collectors: Sequence[Collector],
) -> None:
    """Gives the regions of a tile to everything that is fitted to them."""
    for region in reconstructed_regions(model, pixels, tile, latents, quality, rotation):
        for collector in collectors:
            collector.add(*region)
