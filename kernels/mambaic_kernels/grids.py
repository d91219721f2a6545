"""Positions of a map that are worked on alone, as rows: one grid, or two of the same size that take
turns by rows. A grid is every ``stride``-th row from ``row`` and column from ``column``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Grid(NamedTuple):
    """Every ``stride``-th row from ``row`` and column from ``column``."""

    row: int
    column: int
    stride: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.row, None, self.stride), slice(self.column, None, self.stride)

    def around(self, reach: int) -> tuple[int, int, int, int]:
        """Zeros before and after every row and column, for windows that reach so far around their
        positions; what lies before the first window is cropped."""
        return reach - self.column, reach, reach - self.row, reach


Grids = tuple[Grid, ...]
EVERY = Grid(0, 0, 1)


def take(full: Tensor, grids: Grids) -> Tensor:
    """What a map (B, C, h, w) holds at grids: rows (B, n, C), positions in ascending order."""
    return join([full[(..., *grid.slices)] for grid in grids])


def join(parts: Sequence[Tensor]) -> Tensor:
    """Rows (B, n, C) of maps (B, C, h', w') of the grids."""
    if len(parts) == 1:
        return parts[0].permute(0, 2, 3, 1).flatten(1, 2)
    return torch.stack([part.permute(0, 2, 3, 1) for part in parts], dim=2).flatten(1, 3)


def put(rows: Tensor, size: tuple[int, int], grids: Grids) -> Tensor:
    """A map (B, C, *size) of rows (B, n, C), zero elsewhere: the inverse of ``take``."""
    height, width = size
    if grids == (EVERY,):
        return rows.unflatten(1, size).permute(0, 3, 1, 2)
    full = rows.new_zeros(len(rows), height, width, rows.shape[-1])
    stride = grids[0].stride
    parts = rows.unflatten(1, (height // stride, len(grids), width // stride))
    for grid, part in zip(grids, parts.unbind(2), strict=True):
        full[(slice(None), *grid.slices)] = part
    return full.permute(0, 3, 1, 2)
