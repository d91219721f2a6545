"""One tile of a picture to its payload: analysis, latent refinement, the walk."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mambaic.encoder.fine_colour import colours_worth_a_try
from mambaic.encoder.latent_refinement import refine
from mambaic.entropy_model.walk import LatentStream
from mambaic.models.model import MambaIC
from mambaic.reconstruction.rotation import Rotation
from mambaic.tiling.analysis import analyse
from mambaic.tiling.boxes import Box


def encode_tile(
    model: MambaIC,
    pixels: np.ndarray,
    tile: Box,
    quality: float,
    rotation: Rotation,
    *,
    refinement: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> LatentStream:
    """Payload of a tile of a picture (H, W, 3) uint8, and the latents that it decodes to.

    ``refinement`` steps of latent refinement, with a call of ``advance`` after every block.
    """
    y = analyse(model, pixels, tile, quality, rotation)
    if refinement:
        y = refine(model, pixels, tile, y, quality, refinement, advance, rotation)
    colours = colours_worth_a_try(model, pixels, tile, rotation, quality)
    return model.entropy_model.encode(y, quality, model.error_weights(quality), colours)
