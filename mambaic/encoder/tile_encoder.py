"""One tile of a picture to its payload: analysis, completion, latent refinement, the walk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mambaic.encoder.completion import complete
from mambaic.encoder.fine_colour import Colours, colours_worth_a_try
from mambaic.encoder.latent_refinement import refine
from mambaic.entropy_model.streams import LatentStream
from mambaic.models.model import MambaIC
from mambaic.reconstruction.rotation import Rotation
from mambaic.tiling.analysis import analyse
from mambaic.tiling.boxes import Box


class AnalysedTile(NamedTuple):
    """Latents (1, M, rows, columns), and the finest colours if they are worth a try."""

    y: Tensor
    colours: Colours | None


def analyse_tile(
    model: MambaIC,
    pixels: np.ndarray,
    tile: Box,
    quality: float,
    rotation: Rotation,
    *,
    refinement: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> AnalysedTile:
    """What of a tile of a picture (H, W, 3) uint8 is coded.

    ``refinement`` steps of latent refinement, with a call of ``advance`` after every block.
    """
    y = analyse(model, pixels, tile, quality, rotation)
    y = complete(model, pixels, tile, y, quality, rotation)
    if refinement:
        y = refine(model, pixels, tile, y, quality, refinement, advance, rotation)
    return AnalysedTile(y, colours_worth_a_try(model, pixels, tile, rotation, quality))


def encode_tiles(
    model: MambaIC, tiles: Sequence[AnalysedTile], quality: float
) -> list[LatentStream]:
    """Payloads of tiles of equal size, and the latents that they decode to."""
    y, colours = torch.cat([tile.y for tile in tiles]), [tile.colours for tile in tiles]
    return model.entropy_model.encode_batch(y, quality, model.error_weights(quality), colours)
