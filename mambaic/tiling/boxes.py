"""Boxes of latents: cutting, halos, and where one lies within another.

Latents live on one global grid. Pieces of it are the business of whoever runs the networks; a file
knows only the tiles that are coded on their own.
"""

from __future__ import annotations

import numpy as np

from mambaic.container.fields import LATENT_STRIDE, MAX_TILE_LATENTS, largest_tile, latent_size

Box = tuple[int, int, int, int]  # top, left, rows, columns, in latents

DEFAULT_TILE = 256  # makes tiles of MAX_TILE_LATENTS
PIECE = 128  # side of the largest square that the transforms see at once, without its halo


def default_tile(width: int, height: int) -> int:
    """0 (one tile) where the format allows it, up to about 16 megapixels, else DEFAULT_TILE."""
    return 0 if largest_tile(width, height, 0) <= MAX_TILE_LATENTS else DEFAULT_TILE


def picture_box(pixels: np.ndarray) -> Box:
    """The box of a picture (H, W, 3)."""
    return 0, 0, *latent_size(pixels.shape[1], pixels.shape[0])


def cut(box: Box, rows_of_one: int, columns_of_one: int | None = None) -> list[Box]:
    """``box`` in pieces of at most so many rows and columns (as many by default), row by row."""
    columns_of_one = columns_of_one or rows_of_one
    top, left, rows, columns = box
    return [
        (y, x, min(rows_of_one, top + rows - y), min(columns_of_one, left + columns - x))
        for y in range(top, top + rows, rows_of_one)
        for x in range(left, left + columns, columns_of_one)
    ]


def pieces(box: Box, halo: int) -> list[Box]:
    """``box`` in what the transforms see at once, each with a ``halo`` where it has neighbours: as
    many latents as a square of PIECE with its own, and few of them twice."""
    _, _, rows, columns = box
    most = (PIECE + 2 * halo) ** 2
    grids = []
    for across in range(1, -(-columns // PIECE) + 1):
        width = -(-columns // across)
        seen = width if across == 1 else width + 2 * halo
        height = rows if rows * seen <= most else most // seen - 2 * halo
        if height > 0:
            grids.append(cut(box, -(-rows // -(-rows // height)), width))
    return min(grids, key=lambda grid: _area(grid, halo, box))


def _area(grid: list[Box], halo: int, within: Box) -> int:
    grown = (grow(piece, halo, within) for piece in grid)
    return sum(rows * columns for _, _, rows, columns in grown)


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


def overlap(a: Box, b: Box) -> Box | None:
    top, left = max(a[0], b[0]), max(a[1], b[1])
    bottom, right = min(a[0] + a[2], b[0] + b[2]), min(a[1] + a[3], b[1] + b[3])
    return (top, left, bottom - top, right - left) if bottom > top and right > left else None
