"""Elementwise functions of the walk as modules without weights, so that the fixed-point walk can
put tables in their place (``mambaic.fixed_point``). Others are torch's own: SiLU, Tanh, Sigmoid."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mambaic_kernels.sub_groups.reference import DEVIATIONS_MAX, MAGNITUDES

__all__ = ["MAGNITUDES"]


class Grid(nn.Identity):
    """Where the fixed-point walk rounds a product before it is added to anything."""


class Energy(nn.Identity):
    """Products of which the fixed-point walk sums 75."""


class NormalisedResiduals(NamedTuple):
    """Residuals of coded latents in units of their scale, rows (B, n, C), and features of their
    magnitudes, rows (B, n, MAGNITUDES * C)."""

    deviation: Tensor
    magnitudes: Tensor


class Normalise(nn.Module):
    """``NormalisedResiduals`` of latents (B, n, C). Scales are taken to be within ``bounds``, two
    log-scales: none is 0, and what is far from its mean moves the mean of others no further."""

    def __init__(self, bounds: tuple[float, float]) -> None:
        super().__init__()
        self.bounds = bounds

    def forward(self, coded: Tensor, mean: Tensor, log_scale: Tensor) -> NormalisedResiduals:
        bounded = log_scale.clamp(*self.bounds)
        residual = coded - mean
        deviation = (residual / torch.exp(bounded)).clamp(-DEVIATIONS_MAX, DEVIATIONS_MAX)
        energy = torch.log1p(residual.square() / (torch.exp(2 * bounded) + 0.25))
        # expected energy: next to none of latents whose scale is far under their spacing
        expected = torch.sigmoid(2 * log_scale)
        magnitudes = torch.cat([energy, expected, deviation.abs()], dim=-1)
        return NormalisedResiduals(deviation, magnitudes)


class Move(nn.Module):
    """Means, moved ``by`` so many scales, which are bounded as in ``Normalise``."""

    def __init__(self, bounds: tuple[float, float]) -> None:
        super().__init__()
        self.bounds = bounds

    def forward(self, mean: Tensor, log_scale: Tensor, by: Tensor) -> Tensor:
        return mean + torch.exp(log_scale.clamp(*self.bounds)) * by


class Exp(nn.Module):
    """e ** x."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(x)


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
