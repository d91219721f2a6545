"""Transforms of large pictures piece by piece, without seams and in bounded memory.

Latents live on one global grid. Every piece of it is analysed from its pixels plus a halo of
neighbouring pixels, and synthesised from its latents plus a halo of neighbouring latents, so the
pieces agree with the whole wherever the networks' influence has decayed within the halo. Pieces are
the business of whoever runs the networks; a file knows only the tiles that are coded on their own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mambaic.bitstream import LATENT_STRIDE, MAX_TILE_LATENTS, largest_tile, latent_size
from mambaic.drawn import AROUND, Drawn
from mambaic.model import MambaIC
from mambaic.nn.wavelet import BLOCKS
from mambaic.post_filter import Comparison, PostFilter
from mambaic.rotation import UNTURNED, Rotation

Box = tuple[int, int, int, int]  # top, left, rows, columns, in latents

DEFAULT_TILE = 256  # makes tiles of MAX_TILE_LATENTS
PIECE = 128  # side of what the transforms see at once, without its halo
# Of every tile so many regions of so many latents a side are drawn to fit the filter to: a
# picture of a few megapixels as a whole, of a large one enough.
REGIONS, REGION = 7, 48


@lru_cache(maxsize=1)
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # not glibc
        return None


def return_memory() -> None:
    """Give freed memory back to the system after a piece of a large picture: glibc keeps what is
    fragmented, 0.8 GB after 25 megapixels."""
    if (trim := _malloc_trim()) is not None:
        trim(0)


def default_tile(width: int, height: int) -> int:
    """0 (one tile) where the format allows it, up to about 16 megapixels, else DEFAULT_TILE."""
    return 0 if largest_tile(width, height, 0) <= MAX_TILE_LATENTS else DEFAULT_TILE


def whole(pixels: np.ndarray) -> Box:
    """The box of a picture (H, W, 3)."""
    return 0, 0, *latent_size(pixels.shape[1], pixels.shape[0])


def cut(box: Box, side: int = PIECE) -> list[Box]:
    """``box`` in pieces of at most ``side`` latents a side, row by row."""
    top, left, rows, columns = box
    return [
        (y, x, min(side, top + rows - y), min(side, left + columns - x))
        for y in range(top, top + rows, side)
        for x in range(left, left + columns, side)
    ]


def grow(box: Box, halo: int, within: Box) -> Box:
    """``box`` with ``halo`` latents more on every side that lies ``within`` another one."""
    top, left = max(within[0], box[0] - halo), max(within[1], box[1] - halo)
    bottom = min(within[0] + within[2], box[0] + box[2] + halo)
    right = min(within[1] + within[3], box[1] + box[3] + halo)
    return top, left, bottom - top, right - left


def inside(box: Box, outer: Box) -> tuple[slice, slice]:
    """Where ``box`` lies within ``outer``, in latents."""
    top, left = box[0] - outer[0], box[1] - outer[1]
    return slice(top, top + box[2]), slice(left, left + box[3])


def in_pixels(box: Box, outer: Box) -> tuple[slice, slice]:
    """The same in pixels."""
    rows, columns = inside(box, outer)
    return (
        slice(rows.start * LATENT_STRIDE, rows.stop * LATENT_STRIDE),
        slice(columns.start * LATENT_STRIDE, columns.stop * LATENT_STRIDE),
    )


def read_region(pixels: np.ndarray, box: Box) -> Tensor:
    """Pixels of a box (1, 3, h, w) in [0, 1]; beyond the picture its last pixels repeat."""
    height, width = pixels.shape[:2]
    rows = np.arange(box[0] * LATENT_STRIDE, (box[0] + box[2]) * LATENT_STRIDE).clip(max=height - 1)
    columns = np.arange(box[1] * LATENT_STRIDE, (box[1] + box[3]) * LATENT_STRIDE)
    region = pixels[rows[:, None], columns.clip(max=width - 1)[None, :]]
    x = torch.from_numpy(region).permute(2, 0, 1)[None].float().div_(255.0)
    return x.contiguous(memory_format=torch.channels_last)


def visible_region(pixels: np.ndarray, box: Box) -> Tensor:
    """Pixels of a box as ``read_region`` gives them, without those beyond the picture."""
    rows = pixels.shape[0] - box[0] * LATENT_STRIDE
    columns = pixels.shape[1] - box[1] * LATENT_STRIDE
    return read_region(pixels, box)[..., :rows, :columns]


@torch.no_grad()
def analyse(
    model: MambaIC,
    pixels: np.ndarray,
    box: Box,
    quality: float,
    rotation: Rotation = UNTURNED,
) -> Tensor:
    """Latents (1, M, rows, columns) of one box of the picture (H, W, 3) uint8."""
    picture = whole(pixels)
    device = next(model.parameters()).device
    q = torch.tensor([quality], device=device)
    latents = torch.empty(1, model.config.M, box[2], box[3], device=device)
    pieces = cut(box)
    for piece in pieces:
        outer = grow(piece, model.config.halo, picture)
        y = model.g_a(rotation.turn(read_region(pixels, outer).to(device)), q)
        latents[(..., *inside(piece, box))] = y[(..., *inside(piece, outer))]
        if len(pieces) > 1:
            return_memory()
    return latents


@torch.no_grad()
def draw(
    model: MambaIC,
    latents: Tensor,
    quality: float,
    box: Box,
    outer: Box,
    rotation: Rotation = UNTURNED,
) -> Drawn:
    """Pixels of a box from the latents of ``outer`` around it: y_hat, and after its M channels the
    squared error to expect of each 4x4 pixels, (1, M + BLOCKS**2, h, w)."""
    y_hat, error = latents.tensor_split([model.config.M], dim=1)
    where = (..., *in_pixels(box, outer))
    x_hat = model.g_s(y_hat, torch.tensor([quality], device=y_hat.device))[where]
    x_hat = rotation.turn_back(x_hat)[0].clamp(0, 1)
    # interpolated with what lies around the box, so that pieces agree
    variance = F.pixel_shuffle(error, BLOCKS)
    variance = F.interpolate(variance, scale_factor=LATENT_STRIDE // BLOCKS, mode="bilinear")
    return Drawn(x_hat, variance[0, 0][where].sqrt())


def chosen_regions(box: Box, count: int, side: int) -> list[Box]:
    """At most ``count`` regions of at most ``side`` latents a side, spread over ``box``."""
    regions = cut(box, side)
    chosen = sorted({round(at) for at in np.linspace(0, len(regions) - 1, count)})
    return [regions[index] for index in chosen]


@torch.no_grad()
def drawn_regions(
    model: MambaIC,
    pixels: np.ndarray,
    tile: Box,
    latents: Tensor,
    quality: float,
    rotation: Rotation = UNTURNED,
) -> Iterator[Comparison]:
    """Regions of a tile, drawn from its decoded latents."""
    regions = chosen_regions(tile, REGIONS, REGION)
    for region in regions:
        outer = grow(region, model.config.halo // 4, tile)  # what other tiles hold is not at hand
        around = latents[(..., *inside(outer, tile))]
        drawn = draw(model, around, quality, region, outer, rotation)
        x = visible_region(pixels, region)[0].to(drawn.x_hat.device)
        yield Comparison(drawn.cut(slice(x.shape[1]), slice(x.shape[2])), x)
        if len(regions) > 1:
            return_memory()


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
    ) -> None:
        self._model = model
        self._grid = grid
        self._quality = quality
        self._rotation = rotation
        self._filter = post_filter
        self._size = latent_size(width, height)
        self._tiles: dict[int, tuple[Box, Tensor]] = {}  # what is left of each tile
        self.pixels = np.empty((height, width, 3), dtype=np.uint8)

    def run(self, decode: Callable[[int], Tensor]) -> Iterator[tuple[int, int]]:
        """Decode and place everything; yields (pieces done, pieces in all). ``decode(i)`` gives
        the latents of tile i, as ``draw`` takes them, once."""
        picture = (0, 0, *self._size)
        pieces = cut(picture)
        for step, piece in enumerate(pieces):
            outer = grow(piece, self._model.config.halo, picture)
            self._forget(outer[0])
            for i, tile in enumerate(self._grid):
                if i not in self._tiles and _overlap(tile, outer):
                    self._tiles[i] = tile, decode(i)
            self._place(piece, outer, self._assemble(outer))
            if len(pieces) > 1:
                return_memory()
            yield step + 1, len(pieces)

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
            if (common := _overlap(box, outer)) is not None:
                latents[(..., *inside(common, outer))] = tile[(..., *inside(common, box))]
        return latents

    def _place(self, box: Box, outer: Box, latents: Tensor) -> None:
        around = grow(box, -(-AROUND // LATENT_STRIDE), outer)
        drawn = draw(self._model, latents, self._quality, around, outer, self._rotation)
        x_hat = self._filter.apply(drawn)[(..., *in_pixels(box, around))].clamp(0, 1)
        x_hat = x_hat.mul(255).round().to(torch.uint8)
        top, left = box[0] * LATENT_STRIDE, box[1] * LATENT_STRIDE
        target = self.pixels[top : top + x_hat.shape[1], left : left + x_hat.shape[2]]
        target[:] = x_hat[:, : target.shape[0], : target.shape[1]].permute(1, 2, 0).cpu().numpy()


def _overlap(a: Box, b: Box) -> Box | None:
    top, left = max(a[0], b[0]), max(a[1], b[1])
    bottom, right = min(a[0] + a[2], b[0] + b[2]), min(a[1] + a[3], b[1] + b[3])
    return (top, left, bottom - top, right - left) if bottom > top and right > left else None
