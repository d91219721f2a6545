"""Which latents one step of the coding order covers."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor


class Parity(enum.IntEnum):
    """Half of the checkerboard: (row + column) even or odd."""

    ANCHOR = 0
    NON_ANCHOR = 1


@dataclass(frozen=True)
class Site:
    """Latents coded in one step: ``channels`` of ``latent`` on one checkerboard parity.

    ``parity=None`` covers every position (used for z). Works for odd heights and widths.
    """

    latent: Literal["y", "z"]
    channels: slice
    parity: Parity | None = None

    def mask(self, like: Tensor) -> Tensor:
        """1 where ``like`` (B, C, H, W) is covered, else 0; (1, 1, H, W)."""
        height, width = like.shape[-2:]
        if self.parity is None:
            return like.new_ones(1, 1, height, width)
        return _checkerboard(height, width, int(self.parity)).to(like)[None, None]

    def positions(self, height: int, width: int) -> Tensor:
        """Flat positions covered, ascending (row-major)."""
        if self.parity is None:
            return torch.arange(height * width)
        return _checkerboard(height, width, int(self.parity)).flatten().nonzero().flatten()


@lru_cache(maxsize=64)
def _checkerboard(height: int, width: int, parity: int) -> Tensor:
    grid = torch.arange(height)[:, None] + torch.arange(width)[None, :]
    return grid % 2 == parity
