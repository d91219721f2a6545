"""Hyper-analysis h_a and hyper-synthesis h_s ([Minnen2018], arXiv:1809.02736)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from mambaic.config import ModelConfig
from mambaic.nn.blocks import QualityModulation
from mambaic.nn.functions import log_features
from mambaic.nn.products import product
from mambaic.nn.sampling import Down, Up


class HyperAnalysis(nn.Module):
    """h_a: y (B, M, h, w), sides multiples of 4 -> z (B, Nz, h/4, w/4)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.context_width
        self.stem = nn.Conv2d(2 * config.M, width, 1)
        self.modulate = QualityModulation(width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.down1 = Down(width, width)
        self.down2 = Down(width, config.z_channels)

    def forward(self, y: Tensor, q: Tensor) -> Tensor:
        t = F.leaky_relu(self.modulate(self.stem(log_features(y)), q), 0.1)
        t = t + F.leaky_relu(self.conv(t), 0.1)
        return self.down2(F.leaky_relu(self.down1(t), 0.1))


class HyperSynthesis(nn.Module):
    """h_s: z_hat (B, Nz, h, w) -> side (B, context_width, 4h, 4w)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.context_width
        self.stem = nn.Conv2d(config.z_channels, width, 3, padding=1)
        self.modulate = QualityModulation(width)
        self.up1 = Up(width, width // 2)
        self.conv = nn.Conv2d(width // 2, width // 2, 3, padding=1)
        self.up2 = Up(width // 2, width)
        self.act = nn.LeakyReLU(0.1)

    def forward(self, z_hat: Tensor, q: Tensor) -> Tensor:
        t = product(self.stem, z_hat, affine=self.modulate.affine(q), act=self.act)
        t = self.up1(t, self.act)
        return self.up2(product(self.conv, t, act=self.act, plus=t))
