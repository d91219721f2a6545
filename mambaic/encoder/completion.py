"""Latents of what is unlike photographs, with what g_s misses added.

g_s has learned photographs. Of a halftone it draws a good part wrongly even where latents are not
quantised, more than quantisers do. A fixed-point iteration finds latents that it draws right:

    y += wavelet(x - g_s(y)) / step

Most pictures show by their wavelet coefficients that they need none of it, others by a few regions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mambaic.encoder.fit_regions import chosen_regions
from mambaic.entropy_model.fine_colour import BANDS, CODED
from mambaic.models.model import MambaIC
from mambaic.models.wavelet_transforms import WaveletTransform
from mambaic.nn.wavelet import LEVELS, PACKED
from mambaic.reconstruction.rotation import IDENTITY, Rotation
from mambaic.tiling.analysis import read_region
from mambaic.tiling.boxes import Box, grow, inside, picture_box, pieces
from mambaic.tiling.memory import return_memory

REGIONS, REGION = 4, 8  # of a tile that are looked at, and their sides in latents
# Energy of the finest colours, of that of all other details: up to 0.13 on 56 photographs, from
# 0.45 on of halftone and noise.
LEAST_SHARE = 0.25
LEAST_MISSED = 0.04  # mean square of what g_s misses, in quantiser steps; of photographs 0.01
STEPS = 2
FAR = 120.0  # half degrees; of 56 photographs none is turned by more than 89
PLANES = 3  # of colour; theirs are the last channels, which are no details
FALL = 0.9  # of what is missed, that a step has to bring it under


@torch.no_grad()
def complete(
    model: MambaIC, pixels: np.ndarray, tile: Box, y: Tensor, quality: float, rotation: Rotation
) -> Tensor:
    """Latents (1, M, rows, columns) of a tile of the picture (H, W, 3) uint8 that g_s draws better
    than ``y``; ``y`` itself of photographs."""
    transform = model.coding_transform
    if not isinstance(transform, WaveletTransform):
        return y
    task = _Task(transform, model.config.halo, pixels, tile, quality, rotation)
    regions = chosen_regions(tile, REGIONS, REGION)
    if not task.is_unlike_photographs(regions):
        return y
    if task.missed_in(y, regions) < LEAST_MISSED:
        return y
    return task.improved(y)


@torch.no_grad()
def drawn_better(
    model: MambaIC, pixels: np.ndarray, quality: float, rotation: Rotation
) -> Rotation:
    """A rotation, or none, as g_s draws the picture (H, W, 3) uint8 better: colours that are turned
    far are no photograph's."""
    transform = model.coding_transform
    if math.hypot(*rotation) < FAR or not isinstance(transform, WaveletTransform):
        return rotation
    q = transform.wavelet.mean.new_tensor([quality])

    def missed(candidate: Rotation) -> float:
        total = 0.0
        for region in chosen_regions(picture_box(pixels), REGIONS, REGION):
            x = candidate.rotate(read_region(pixels, region).to(q.device))
            missed = transform.missed(x, transform.g_a(x, q), q) / transform.step(q)
            total += float(missed.square().sum())
        return total

    return min(rotation, IDENTITY, key=missed)


def _finest() -> Tensor:
    """Which of all wavelet channels, finest level first, are the finest colours, (PACKED,) bool."""
    parts = []
    for level in range(1, LEVELS + 1):
        bands = torch.zeros(PLANES, BANDS, dtype=torch.bool)
        for plane, band in CODED.get(level, ()):
            bands[plane, band] = True
        parts.append(bands.flatten().repeat_interleave(4 ** (LEVELS - level)))
    return torch.cat([*parts, torch.zeros(PLANES, dtype=torch.bool)])


class _Task:
    """A tile and how it is drawn."""

    def __init__(
        self,
        transform: WaveletTransform,
        halo: int,
        pixels: np.ndarray,
        tile: Box,
        quality: float,
        rotation: Rotation,
    ) -> None:
        self._transform, self._halo = transform, halo
        self._pixels, self._tile = pixels, tile
        self._quality, self._rotation = quality, rotation

    def is_unlike_photographs(self, regions: list[Box]) -> bool:
        """By the finest colours alone."""
        wavelet, finest = self._transform.wavelet, _finest()
        energy = torch.zeros(PACKED)
        for region in regions:
            x = self._rotation.rotate(read_region(self._pixels, region).to(wavelet.channels.device))
            energy += wavelet.all_channels(x).square().sum(dim=(0, 2, 3)).cpu()
        others = energy[:-PLANES][~finest[:-PLANES]].sum()
        return bool(energy[finest].sum() > LEAST_SHARE * others)

    def missed_in(
        self, y: Tensor, boxes: list[Box], use: Callable[[Box, Tensor], None] = lambda box, of: None
    ) -> float:
        """Mean square, over boxes of the tile, of what g_s misses, in quantiser steps; ``use`` gets
        it box by box, (1, M, h, w)."""
        q = y.new_tensor([self._quality])
        total = count = 0.0
        for box in boxes:
            outer = grow(box, self._halo, self._tile)
            x = self._rotation.rotate(read_region(self._pixels, outer).to(y.device))
            missed = self._transform.missed(x, y[(..., *inside(outer, self._tile))], q)
            missed = (missed / self._transform.step(q))[(..., *inside(box, outer))]
            total += float(missed.square().sum())
            count += missed.numel()
            use(box, missed)
            if len(boxes) > 1:
                return_memory()
        return total / count

    def improved(self, y: Tensor) -> Tensor:
        """After steps of the iteration, as long as less is missed."""
        found, least, boxes = y, np.inf, pieces(self._tile, self._halo)
        for _ in range(STEPS + 1):
            following = y.clone()

            def add(box: Box, missed: Tensor, to: Tensor = following) -> None:
                to[(..., *inside(box, self._tile))] += missed

            missed = self.missed_in(y, boxes, add)
            if missed > FALL * least:
                return found
            found, least, y = y, missed, following
        return found
