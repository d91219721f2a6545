"""Elementwise functions of the walk as modules without weights, so that the fixed-point walk can
put tables in their place (``mambaic.fixed_point``). Others are torch's own: SiLU, Tanh, Sigmoid."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Grid(nn.Identity):
    """Where the fixed-point walk rounds a product before it is added to anything."""


class Energy(nn.Identity):
    """Products of which the fixed-point walk sums 75."""


class Exp(nn.Module):
    """e ** x."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(x)


class Log1p(nn.Module):
    """log(1 + x) of x >= 0."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.log1p(x)


class LogFeatures(nn.Module):
    """asinh(y) and its magnitude, (B, 2C, H, W): shallow networks cannot see by themselves that a
    large neighbour of either sign means a large scale."""

    def forward(self, y: Tensor) -> Tensor:
        return log_features(y)


def log_features(y: Tensor) -> Tensor:
    """As ``LogFeatures``."""
    magnitude = y.abs()
    # asinh by its definition: torch.asinh has no SIMD form and takes five times as long
    return signed_and_plain(torch.log(magnitude + torch.sqrt(magnitude * magnitude + 1)), y)


def signed_and_plain(magnitude: Tensor, like: Tensor) -> Tensor:
    """Magnitudes with the signs of ``like``, then as they are: channels (B, 2C, H, W)."""
    return torch.cat([torch.copysign(magnitude, like), magnitude], dim=1)
