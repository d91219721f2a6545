"""The distribution of one step's latents: a mean, a log-scale, and the model's tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mambaic.coding.tables import (
    EVEN,
    LOG_MIN,
    ODD,
    SETS,
    SKIP,
    TRELLIS,
    WHOLE,
    Tables,
    is_odd,
    level_position,
    mixture_magnitudes,
)
from mambaic_kernels.mixture.reference import mixture_mass

LIKELIHOOD_MIN = 1e-9
# Residuals of the trellis's latents have the gradients of what is quantised themselves; of whole
# numbers the slope to the next one is too much for the many that never leave 0 (docs/training.md,
# "What a latent costs").
WHOLE_SLOPE = 0.5
MIXTURE_MAGNITUDES = 256  # priced while there are no tables; larger ones as the last


@dataclass(frozen=True)
class Prior:
    """``mean`` and ``log_scale`` of the latents of a site: rows (B, n, C), ``Lattice``."""

    mean: Tensor
    log_scale: Tensor

    def at(self, positions: slice) -> Prior:
        """The prior of some of the positions."""
        return Prior(self.mean[:, positions], self.log_scale[:, positions])


@dataclass(frozen=True)
class Shape:
    """What all priors of a model share: the mixture ([0-dim] tensors) and its frozen tables."""

    weight: Tensor
    ratio: Tensor
    tables: Tables | None

    def likelihood(self, residual: Tensor, log_scale: Tensor, spacing: float) -> Tensor:
        """P of the unit interval around a residual, in units of ``spacing``, at a continuous scale:
        what training prices until there are tables."""
        scale = torch.exp(log_scale.clamp(min=LOG_MIN)) / spacing
        mass = mixture_mass(residual, scale, self.weight, self.ratio)
        return mass.clamp(min=LIKELIHOOD_MIN)

    def coded_likelihood(self, symbols: Tensor, log_scale: Tensor, kind: Tensor) -> Tensor:
        """2 ** -bits of symbols in a file; of the mixture while there are no tables."""
        level = level_position(log_scale).long()
        if self.tables is not None:
            return self.tables.likelihood(symbols, level, kind).to(log_scale.dtype)
        prices = self.prices_on(log_scale.device).to(log_scale.dtype)
        magnitude = symbols.abs().long().clamp(max=prices.shape[-1] - 1)
        return torch.exp2(-prices[kind, level, magnitude])

    def relaxed_bits(
        self, quantised: Tensor, log_scale: Tensor, kind: Tensor, residual: Tensor
    ) -> Tensor:
        """Bits of quantised residuals in a file, with gradients: what training prices.

        ``quantised`` and ``residual`` in units of the spacing. Linear in the scale from level to
        level, so that scales learn what symbols cost; in the residual with the slope from one value
        of the quantisers to the next, of whole numbers with WHOLE_SLOPE of it.
        """
        assert self.tables is not None
        prices = self.tables.on_device("grid_prices", log_scale.device).to(log_scale.dtype)
        grids, levels, length = prices.shape
        grid = (kind != WHOLE).to(log_scale.dtype)
        level = (level_position(log_scale) - 0.5).clamp(0.0, levels - 1.0)

        def bits(value: Tensor, level: Tensor) -> Tensor:
            column = 2 / (length - 1) * (1 + grid) * value.abs() - 1
            row = 2 / (grids * levels - 1) * (levels * grid + level) - 1
            places = torch.stack([column, row], dim=-1).view(1, 1, -1, 2)
            image = prices.view(1, 1, grids * levels, length)
            # "border": beyond the last value the price of the last; a place that is no number would
            # be read from anywhere
            found = F.grid_sample(
                image, places.nan_to_num(), padding_mode="border", align_corners=True
            )
            return found.view_as(value).masked_fill(places.isnan().any(-1).view_as(value), math.nan)

        moved = bits(residual, level.detach())
        share = WHOLE_SLOPE + (1 - WHOLE_SLOPE) * grid
        return bits(quantised.detach(), level) + share * (moved - moved.detach())

    @cached_property
    def prices(self) -> np.ndarray:
        """Bits of magnitudes, (SETS, LEVELS, n) float32: of the tables, or of the mixture while
        there are none."""
        return self.prices_on(torch.device("cpu")).numpy()

    @cached_property
    def _mixture_prices(self) -> Tensor:
        masses = [
            mixture_magnitudes(self.weight, self.ratio, kind, MIXTURE_MAGNITUDES)
            for kind in (WHOLE, EVEN[0], ODD[0])
        ]
        of_sets = [masses[is_odd(kind) + 1] for kind in range(TRELLIS, SETS)]
        mass = torch.stack([masses[0], *of_sets]).detach()
        mass[..., 1:] /= 2  # each sign
        return -torch.log2(mass.clamp(min=LIKELIHOOD_MIN)).float()

    def prices_on(self, device: torch.device) -> Tensor:
        """``prices`` as a tensor of a device."""
        if self.tables is not None:
            return self.tables.on_device("prices", device)
        return self._mixture_prices.to(device)

    def quantiser_prices_on(self, device: torch.device) -> Tensor:
        """Bits of magnitudes where of a state its quantiser alone is known: (2, LEVELS, n)."""
        if self.tables is not None:
            return self.tables.on_device("quantiser_prices", device)
        even, odd = int(EVEN[0]), int(ODD[0])  # it knows no more
        return torch.stack([self._mixture_prices[even], self._mixture_prices[odd]]).to(device)

    @property
    def skip(self) -> int:
        """Levels under it are not coded."""
        return SKIP if self.tables is None else self.tables.skip

    def skipped(self, log_scale: Tensor) -> Tensor:
        """True where the latent is not coded."""
        return level_position(log_scale) < self.skip
