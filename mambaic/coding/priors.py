"""The distribution of one step's latents: a mean, a log-scale, and the model's tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mambaic.coding.tables import LOG_MIN, SETS, Tables, level_position, mixture_magnitudes
from mambaic_kernels.mixture import mixture_mass

LIKELIHOOD_MIN = 1e-9
MIXTURE_MAGNITUDES = 256  # priced while there are no tables; larger ones as the last


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

    def likelihood(self, residual: Tensor, log_scale: Tensor, spacing: float) -> Tensor:
        """P of the unit interval around a residual, in units of ``spacing``, at a continuous scale:
        what training prices."""
        scale = torch.exp(log_scale.clamp(min=LOG_MIN)) / spacing
        mass = mixture_mass(residual, scale, self.weight, self.ratio)
        return mass.clamp(min=LIKELIHOOD_MIN)

    def coded_likelihood(self, symbols: Tensor, log_scale: Tensor, kind: Tensor) -> Tensor:
        """2 ** -bits of symbols in a file; of the mixture while there are no tables."""
        level = level_position(log_scale).long()
        if self.tables is not None:
            return self.tables.likelihood(symbols, level, kind).to(log_scale.dtype)
        magnitude = symbols.abs().long().clamp(max=self.prices.shape[-1] - 1)
        prices = torch.from_numpy(self.prices).to(log_scale)
        return torch.exp2(-prices[kind, level, magnitude])

    @cached_property
    def prices(self) -> np.ndarray:
        """Bits of magnitudes, (SETS, LEVELS, n) float32: of the tables, or of the mixture while
        there are none."""
        if self.tables is not None:
            return self.tables.prices
        masses = [
            mixture_magnitudes(self.weight, self.ratio, kind, MIXTURE_MAGNITUDES)
            for kind in range(SETS)
        ]
        mass = torch.stack(masses).detach()
        mass[..., 1:] /= 2  # each sign
        return -torch.log2(mass.clamp(min=LIKELIHOOD_MIN)).float().cpu().numpy()

    @property
    def skip(self) -> int:
        """Levels under it are not coded."""
        return 0 if self.tables is None else self.tables.skip

    def skipped(self, log_scale: Tensor) -> Tensor:
        """True where the latent is not coded."""
        return level_position(log_scale) < self.skip
