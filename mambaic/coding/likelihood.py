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
    CONTEXTS,
    EVEN,
    LOG_MIN,
    ODD,
    ROUNDED,
    SKIP,
    TCQ,
    Tables,
    is_odd,
    mixture_magnitudes,
    scale_position,
)
from mambaic_kernels.mixture.reference import mixture_mass

LIKELIHOOD_MIN = 1e-9
# Share of the slope from one integer to the next that z's residuals get: most never leave 0
# (docs/experiments/notebook.md, "What a latent costs"). TCQ residuals have a gradient of their own.
WHOLE_SLOPE = 0.5
MIXTURE_MAGNITUDES = 256  # in the rate table while there are no coding tables


@dataclass(frozen=True)
class Prior:
    """``mean`` and ``log_scale`` of the latents of a site: rows (B, n, C), ``Lattice``."""

    mean: Tensor
    log_scale: Tensor

    def at(self, positions: slice) -> Prior:
        """The prior of some of the positions."""
        return Prior(self.mean[:, positions], self.log_scale[:, positions])


@dataclass(frozen=True)
class ScaleMixture:
    """The scale mixture that all priors of a model share (0-dim tensors), and its frozen tables."""

    weight: Tensor
    ratio: Tensor
    tables: Tables | None

    def likelihood(self, residual: Tensor, log_scale: Tensor, spacing: float) -> Tensor:
        """P of the unit interval around a residual, in units of ``spacing``, at a continuous scale:
        what training rates until there are tables."""
        scale = torch.exp(log_scale.clamp(min=LOG_MIN)) / spacing
        mass = mixture_mass(residual, scale, self.weight, self.ratio)
        return mass.clamp(min=LIKELIHOOD_MIN)

    def coded_likelihood(self, symbols: Tensor, log_scale: Tensor, context: Tensor) -> Tensor:
        """2 ** -bits of symbols in a file; of the mixture while there are no tables."""
        index = scale_position(log_scale).long()
        if self.tables is not None:
            return self.tables.likelihood(symbols, index, context).to(log_scale.dtype)
        rates = self.rates_on(log_scale.device).to(log_scale.dtype)
        magnitude = symbols.abs().long().clamp(max=rates.shape[-1] - 1)
        return torch.exp2(-rates[context, index, magnitude])

    def relaxed_bits(
        self, quantised: Tensor, log_scale: Tensor, context: Tensor, residual: Tensor
    ) -> Tensor:
        """Bits of quantised residuals in a file, with gradients: what training rates.

        ``quantised`` and ``residual`` in units of the spacing. Linear in the scale between indices,
        so that scales learn what symbols cost; in the residual with the slope from one value
        of the quantisers to the next, of integers with WHOLE_SLOPE of it.
        """
        assert self.tables is not None
        rates = self.tables.on_device("grid_rates", log_scale.device).to(log_scale.dtype)
        grids, indices, length = rates.shape
        grid = (context != ROUNDED).to(log_scale.dtype)
        index = (scale_position(log_scale) - 0.5).clamp(0.0, indices - 1.0)

        def bits(value: Tensor, index: Tensor) -> Tensor:
            column = 2 / (length - 1) * (1 + grid) * value.abs() - 1
            row = 2 / (grids * indices - 1) * (indices * grid + index) - 1
            places = torch.stack([column, row], dim=-1).view(1, 1, -1, 2)
            image = rates.view(1, 1, grids * indices, length)
            # "border": beyond the last value its rate; NaN would index anywhere
            found = F.grid_sample(
                image, places.nan_to_num(), padding_mode="border", align_corners=True
            )
            return found.view_as(value).masked_fill(places.isnan().any(-1).view_as(value), math.nan)

        moved = bits(residual, index.detach())
        share = WHOLE_SLOPE + (1 - WHOLE_SLOPE) * grid
        return bits(quantised.detach(), index) + share * (moved - moved.detach())

    @cached_property
    def rates(self) -> np.ndarray:
        """Rate table, bits by (CONTEXTS, SCALE_COUNT, magnitude) float32: of the coding tables, or
        of the mixture while there are none."""
        return self.rates_on(torch.device("cpu")).numpy()

    @cached_property
    def _mixture_rates(self) -> Tensor:
        masses = [
            mixture_magnitudes(self.weight, self.ratio, context, MIXTURE_MAGNITUDES)
            for context in (ROUNDED, EVEN[0], ODD[0])
        ]
        of_sets = [masses[is_odd(context) + 1] for context in range(TCQ, CONTEXTS)]
        mass = torch.stack([masses[0], *of_sets]).detach()
        mass[..., 1:] /= 2  # each sign
        return -torch.log2(mass.clamp(min=LIKELIHOOD_MIN)).float()

    def rates_on(self, device: torch.device) -> Tensor:
        """``rates`` as a tensor of a device."""
        if self.tables is not None:
            return self.tables.on_device("rates", device)
        return self._mixture_rates.to(device)

    def quantiser_rates_on(self, device: torch.device) -> Tensor:
        """Rate table by quantiser alone, even and odd: (2, SCALE_COUNT, magnitude)."""
        if self.tables is not None:
            return self.tables.on_device("quantiser_rates", device)
        even, odd = int(EVEN[0]), int(ODD[0])  # it knows no more
        return torch.stack([self._mixture_rates[even], self._mixture_rates[odd]]).to(device)

    @property
    def skip(self) -> int:
        """Scale indices under it are not coded."""
        return SKIP if self.tables is None else self.tables.skip

    def skipped(self, log_scale: Tensor) -> Tensor:
        """True where the latent is not coded."""
        return scale_position(log_scale) < self.skip
