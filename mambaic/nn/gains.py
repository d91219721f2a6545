"""Quality-dependent vectors: the quantiser step of every latent channel, interpolated in quality.

Variable rate in one model by gain vectors ([Cui2021] AG-VAE, arXiv:2003.02012): log-values at a few
anchor qualities, linear between them, so that any quality in [0, 100] has its own step.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from mambaic.config import TRAINED, ModelConfig
from mambaic.nn.grid import to_grid
from mambaic.nn.products import Affine


class QualityCurve(nn.Module):
    """Per-channel value as a piecewise linear function of quality; (B,) -> (B, channels, 1, 1)."""

    def __init__(self, anchors: int, channels: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(anchors, channels))

    def forward(self, q: Tensor) -> Tensor:
        return interpolated(self.values, q)[:, :, None, None]


def interpolated(values: Tensor, q: Tensor) -> Tensor:
    """Values (anchors, channels), anchors evenly spaced over [0, 100], at qualities (B,): (B,
    channels)."""
    position = q.to(values.dtype).clamp(0, 100) / 100 * (len(values) - 1)
    lower = position.floor().long().clamp(max=len(values) - 2)
    weight = (position - lower).unsqueeze(1)
    return values[lower] * (1 - weight) + values[lower + 1] * weight


def linear_step(config: ModelConfig, quality: float) -> float:
    """Quantiser step that is optimal for a linear codec at high rate: step**2 = 18 / (lmbda 255**2
    ln 2), from d(bits)/d(step) = 1/(step ln 2) and mse = step**2 / 12 per latent, with 3 colour
    planes averaged in the mse and about half of the latents active."""
    return math.sqrt(18.0 / (config.lmbda(quality) * 255**2 * math.log(2.0)))


class TypicalScale(QualityCurve):
    """Log-scales of latents at a quality, as what a layer's means, log-scales and ``gates`` are
    multiplied by and moved by, both (B, 1, 2 * channels + gates)."""

    def __init__(self, anchors: int, channels: int, gates: int) -> None:
        super().__init__(anchors, channels)
        self.gates = gates

    def forward(self, q: Tensor) -> Affine:  # type: ignore[override]
        return self.affine_of(interpolated(self.values, q), torch.exp)

    def affine_of(self, typical: Tensor, exp: Callable[[Tensor], Tensor]) -> Affine:
        """Of log-scales (B, channels)."""
        rest = typical.new_ones(len(typical), typical.shape[1] + self.gates)
        none = torch.zeros_like(typical)
        factor = torch.cat([exp(typical), rest], dim=1)
        shift = torch.cat([none, typical, none.new_zeros(len(none), self.gates)], dim=1)
        return factor[:, None], shift[:, None]


class QuantiserStep(QualityCurve):
    """Step by which every channel of the latent is divided before rounding, (B, M, 1, 1)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.rate_anchors, config.M)
        qualities = np.linspace(0, 100, config.rate_anchors).tolist()
        with torch.no_grad():
            for row, quality in zip(self.values, qualities, strict=True):
                row.fill_(math.log(linear_step(config, quality)))

    def forward(self, q: Tensor) -> Tensor:
        return torch.exp(super().forward(q))


def fineness(config: ModelConfig, q: Tensor) -> Tensor:
    """How many times finer latents are coded at stretched qualities q (B,) than the networks know:
    1 up to TRAINED, from there on as ``linear_step`` falls."""
    return torch.exp(log_fineness(config, q))


def log_fineness(config: ModelConfig, q: Tensor) -> Tensor:
    """The logarithm of ``fineness``, in steps that the fixed-point walk can tell."""
    slope = (config.log_lmbda(TRAINED) - config.log_lmbda(0.0)) / TRAINED
    return to_grid(slope / 2 * (q - TRAINED).clamp(min=0.0))
