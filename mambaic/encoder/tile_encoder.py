"""A tile of a picture to its payload: what an encoder does, up to the post-filter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from mambaic.encoder.filter_fit import Comparison
from mambaic.encoder.fit_regions import reconstructed_regions
from mambaic.encoder.latent_refinement import refine
from mambaic.models.model import MambaIC
from mambaic.reconstruction.rotation import Rotation
from mambaic.tiling.analysis import analyse
from mambaic.tiling.boxes import Box


class CodedTile(NamedTuple):
    """``estimated_bits`` is the ideal length of the symbols in ``payload``; ``regions`` of it, as a
    decoder draws them, can be gone through once."""

    rotation: Rotation
    payload: bytes
    estimated_bits: float
    regions: Iterable[Comparison]

    def cost(self, weight: float) -> float:
        """In bits; ``weight`` of them for a squared error."""
        return self.estimated_bits + weight * sum(region.error for region in self.regions)


class TileEncoder:
    """Codes tiles of a picture (H, W, 3) uint8 at one quality. Latents are refined in so many steps
    (``encoder.latent_refinement``), with a call of ``advance`` after every block of them."""

    def __init__(
        self,
        model: MambaIC,
        pixels: np.ndarray,
        quality: float,
        refinement: int = 0,
        advance: Callable[[], None] = lambda: None,
    ) -> None:
        self._model, self._pixels, self._quality = model, pixels, quality
        self._refinement, self._advance = refinement, advance

    def code(self, tile: Box, rotation: Rotation) -> CodedTile:
        source = self._model, self._pixels, tile
        y = analyse(*source, self._quality, rotation)
        if self._refinement:
            y = refine(*source, y, self._quality, self._refinement, self._advance, rotation)
        weights = self._model.error_weights(self._quality)
        stream = self._model.entropy_model.encode(y, self._quality, weights)
        del y  # 0.1 GB of a large tile
        latents = torch.cat(stream.decoded, dim=1)
        regions = reconstructed_regions(*source, latents, self._quality, rotation)
        return CodedTile(rotation, stream.payload, stream.estimated_bits, regions)

    def cheapest(self, tile: Box, rotations: Sequence[Rotation]) -> CodedTile:
        """The tile with that of ``rotations`` with which bits and error together are least. With
        several of them all regions of the tile are kept."""
        if len(rotations) == 1:
            return self.code(tile, rotations[0])

        def reconstruction(rotation: Rotation) -> CodedTile:
            coded = self.code(tile, rotation)
            return coded._replace(regions=list(coded.regions))

        weight = self._model.config.error_weight(self._quality)
        # side by side: much of a small tile's coding keeps one core of several busy
        with ThreadPoolExecutor(max_workers=len(rotations)) as pool:
            return min(pool.map(reconstruction, rotations), key=lambda coded: coded.cost(weight))
