"""Residual convolution, quality modulation and the block strings of a configuration.

Feature maps are (B, C, H, W) in channels_last memory; 3x3 convolutions are dense because on CPUs
with bf16 matrix units (and on GPUs) they cost less time per step than depthwise ones.

[Minnen2018] Joint autoregressive and hierarchical priors, arXiv:1809.02736.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambaic.config import ModelConfig
from mambaic.nn.attention import WindowAttention
from mambaic.nn.functions import LogFeatures
from mambaic.nn.products import Affine, product
from mambaic.nn.vss import VSSBlock
from mambaic_kernels.grids import Grids, join, take


class ResidualBlock(nn.Module):
    """x + conv(act(conv(x))), 3x3, the second convolution starting near zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            self.conv2.weight.mul_(0.1)
            nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]
        self.act = nn.LeakyReLU(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return product(self.conv2, product(self.conv1, x, act=self.act), plus=x)


class QualityModulation(nn.Module):
    """Scale and shift of every channel as a smooth function of the quality; identity at first.

    q (B,) in [0, 100], larger ones count as 100; x (B, C, H, W).
    """

    def __init__(self, channels: int, hidden: int = 32) -> None:
        super().__init__()
        self.hidden = nn.Linear(3, hidden)
        self.out = nn.Linear(hidden, 2 * channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        factor, shift = self.affine(q)
        return x * factor.to(x.dtype) + shift.to(x.dtype)

    def affine(self, q: Tensor) -> Affine:
        """Factors and shifts (B, C, 1, 1)."""
        features = quality_features(q).to(self.hidden.weight.dtype)
        scale, shift = self.out(torch.tanh(self.hidden(features))).chunk(2, dim=-1)
        return 1 + scale[:, :, None, None], shift[:, :, None, None]


def quality_features(q: Tensor) -> Tensor:
    """What modulations see of qualities (B,): (B, 3)."""
    t = q.clamp(max=100.0) / 50.0 - 1.0
    return torch.stack([t, t * t, t * t * t], dim=-1)


def zero_start(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """Start a branch's last layer at zero, so that it adds nothing until it has learned."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def make_block(kind: str, channels: int, config: ModelConfig, span: int) -> nn.Module:
    """One block of a block string: "r" residual, "v" VSS, "a" window attention."""
    if kind == "r":
        return ResidualBlock(channels)
    if kind == "v":
        return VSSBlock(channels, config.vss, span)
    return WindowAttention(channels, window=config.window)


def make_blocks(kinds: str, channels: int, config: ModelConfig, span: int = 0) -> nn.Sequential:
    """The blocks of a block string in order; ``span`` as in ``SS2D``."""
    return nn.Sequential(*(make_block(kind, channels, config, span) for kind in kinds))


class FeatureConv2d(nn.Conv2d):
    """3x3 convolution of the log features of latents: (B, C, H, W) -> (B, out, H, W)."""

    def __init__(self, channels: int, out: int, dilation: int = 1) -> None:
        super().__init__(2 * channels, out, 3, padding=dilation, dilation=dilation)
        self.features: nn.Module = LogFeatures()

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(self.features(input))


class RowConv2d(nn.Conv2d):
    """1x1 convolution at listed positions, (B, n, C) -> (B, n, out): as a matrix product, which
    takes less time than a convolution where there are few positions."""

    def __init__(self, channels: int, out: int, *, bias: bool = True) -> None:
        super().__init__(channels, out, 1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.flatten(1), self.bias)


class GridConv2d(nn.Conv2d):
    """Convolution computed only at the positions of ``grids``: maps (B, C, H, W) -> rows
    (B, n, out)."""

    def __init__(self, channels: int, out: int, kernel: int) -> None:
        super().__init__(channels, out, kernel, padding=kernel // 2)

    def forward(self, input: Tensor, grids: Grids) -> Tensor:  # type: ignore[override]
        if self.kernel_size == (1, 1):
            return F.linear(take(input, grids), self.weight.flatten(1), self.bias)
        padded = [F.pad(input, grid.around(self.kernel_size[0] // 2)) for grid in grids]
        return join(
            [
                F.conv2d(x, self.weight, self.bias, grid.stride)
                for x, grid in zip(padded, grids, strict=True)
            ]
        )


class GridFeatureConv2d(GridConv2d):
    """``FeatureConv2d`` computed only at the positions of ``grids``: maps -> rows (B, n, out)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(2 * channels, out, 3)
        self.features: nn.Module = LogFeatures()

    def forward(self, input: Tensor, grids: Grids) -> Tensor:  # type: ignore[override]
        return super().forward(self.features(input), grids)


OF_FEATURES = (FeatureConv2d, GridFeatureConv2d)
