"""Analysis g_a and synthesis g_s of the wavelet family.

It adds networks to a linear codec that works from the first step:

    y     = wavelet(x) / step(q) + net_a(x, wavelet(x) / step(q))
    x_lin = wavelet^-1(y_hat * step(q));   x_hat = x_lin + net_s(y_hat, x_lin)

(an auxiliary linear shortcut as in [Li2025] AuxT, arXiv:2410.09387). Both nets start at zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mambaic.config import ModelConfig
from mambaic.nn.blocks import QualityModulation, log_features, make_blocks, zero_start
from mambaic.nn.gains import QuantiserStep
from mambaic.nn.sampling import Down, Up
from mambaic.nn.wavelet import WaveletPacking


class WaveletAnalysis(nn.Module):
    """net_a: (B, 3, H, W) and its linear latent (B, M, H/16, W/16) -> correction of the latent."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.stem = Down(3, config.width8, 8)
        self.modulate8 = QualityModulation(config.width8)
        self.blocks8 = make_blocks(config.analysis8, config.width8, config)
        self.down = Down(config.width8, config.width16)
        self.linear = nn.Conv2d(2 * config.M, config.width16, 1)
        self.modulate16 = QualityModulation(config.width16)
        self.blocks16 = make_blocks(config.analysis16, config.width16, config)
        self.out = zero_start(nn.Conv2d(config.width16, config.M, 1))

    def forward(self, x: Tensor, y_linear: Tensor, q: Tensor) -> Tensor:
        t = self.blocks8(self.modulate8(self.stem(x - 0.5), q))
        t = self.down(t) + self.linear(log_features(y_linear))
        return self.out(self.blocks16(self.modulate16(t, q)))


class WaveletSynthesis(nn.Module):
    """net_s: y_hat (B, M, h, w) and linear image (B, 3, 16h, 16w) -> correction of the image."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.stem16 = nn.Conv2d(2 * config.M, config.width16, 1)
        self.modulate16 = QualityModulation(config.width16)
        self.blocks16 = make_blocks(config.synthesis16, config.width16, config)
        self.up = Up(config.width16, config.width8)
        self.stem8 = Down(3, config.width8, 8)
        self.modulate8 = QualityModulation(config.width8)
        self.blocks8 = make_blocks(config.synthesis8, config.width8, config)
        self.out = Up(config.width8, 3, 8)
        zero_start(self.out.conv)

    def forward(self, y_hat: Tensor, x_linear: Tensor, q: Tensor) -> Tensor:
        t = self.blocks16(self.modulate16(self.stem16(log_features(y_hat)), q))
        t = self.up(t) + self.stem8(x_linear - 0.5)
        return self.out(self.blocks8(self.modulate8(t, q)))


class WaveletTransform(nn.Module):
    """g_a and g_s of the wavelet family. ``networks=False`` leaves the linear codec alone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.wavelet = WaveletPacking(config.groups)
        self.step = QuantiserStep(config)
        self.analysis = WaveletAnalysis(config)
        self.synthesis = WaveletSynthesis(config)
        self.networks = True

    def g_a(self, x: Tensor, q: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1], sides multiples of 16 -> (B, M, H/16, W/16)."""
        with torch.no_grad():
            packed = self.wavelet(x)
        y = packed / self.step(q)
        return y + self.analysis(x, y, q).to(y.dtype) if self.networks else y

    def g_s(self, y_hat: Tensor, q: Tensor) -> Tensor:
        """(B, M, h, w) -> (B, 3, 16h, 16w), not clamped."""
        x_linear = self.wavelet.inverse(y_hat * self.step(q))
        if not self.networks:
            return x_linear
        return x_linear + self.synthesis(y_hat, x_linear, q).to(x_linear.dtype)

    def error_weights(self, q: Tensor) -> Tensor:
        """What squared errors of latents add to those of pixels, at one quality (1,): as
        ``WaveletPacking.shares``."""
        return self.wavelet.shares() * self.step(q).flatten()[:, None] ** 2
