"""The distribution of one step's latents: a mean, a log-scale, and the model's tables."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mambaic.coding.tables import LOG_MIN, Tables, level_position
from mambaic_kernels.mixture import mixture_mass

LIKELIHOOD_MIN = 1e-9


@dataclass(frozen=True)
class Prior:
    """``mean`` and ``log_scale`` have the full (B, C, H, W) shape of the site's channels, and hold
    on its lattice."""

    mean: Tensor
    log_scale: Tensor


@dataclass(frozen=True)
class Shape:
    """What all priors of a model share: the mixture ([0-dim] tensors) and its frozen tables."""

    weight: Tensor
    ratio: Tensor
    tables: Tables | None

    def likelihood(self, residual: Tensor, log_scale: Tensor) -> Tensor:
        """P of the unit interval around a residual at a continuous scale: what training prices."""
        scale = torch.exp(log_scale.clamp(min=LOG_MIN))
        mass = mixture_mass(residual, scale, self.weight, self.ratio)
        return mass.clamp(min=LIKELIHOOD_MIN)

    def coded_likelihood(self, symbols: Tensor, log_scale: Tensor) -> Tensor:
        """2 ** -bits of rounded residuals in a file; of the mixture while there are no tables."""
        if self.tables is None:
            return self.likelihood(symbols, log_scale)
        level = level_position(log_scale).long()
        return self.tables.likelihood(symbols, level).to(log_scale.dtype)

    def skipped(self, log_scale: Tensor) -> Tensor:
        """True where the latent is not coded because its scale is under the threshold."""
        if self.tables is None:
            return torch.zeros_like(log_scale, dtype=torch.bool)
        return level_position(log_scale) < self.tables.skip
