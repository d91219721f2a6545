"""Latents coded more finely than the networks know.

Networks are trained up to quality TRAINED. Beyond it they see latents as they are there, in its
quantiser steps, and so do priors; what is coded are multiples of them. What is too small to be
coded at TRAINED was never asked how small it is: ``SmallScales`` knows that of every channel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import Site
from mambaic.coding.step_coder import PriorOf, StepCoder
from mambaic.nn.functions import Exp, Grid

KNOTS, KNOT_STEP = 8, 0.5  # of the curves, in log-scales below the highest one
HIGHEST = math.log(0.3)  # scales above it are right as they are: they were coded
ONSET = 4.0  # corrections are made in full from a fineness of exp(1 / ONSET) on


class SmallScales(nn.Module):
    """What log-scales of latents below HIGHEST are corrected by, channel by channel: (..., C),
    linear between KNOTS; nothing at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.offsets = nn.Parameter(torch.zeros(channels, KNOTS))
        self.exp, self.grid = Exp(), Grid()

    def forward(self, log_scale: Tensor, channels: slice) -> Tensor:
        offsets = torch.cat([self.offsets.new_zeros(len(self.offsets), 1), self.offsets], dim=1)
        offsets = offsets[channels].to(log_scale.dtype)
        place = ((HIGHEST - log_scale) / KNOT_STEP).clamp(0.0, KNOTS)
        lower = place.detach().floor().clamp(max=KNOTS - 1)
        channel = torch.arange(len(offsets), device=place.device).expand_as(place)
        below, above = (offsets[channel, lower.long() + more] for more in (0, 1))
        return self.grid(below) + self.grid((above - below) * (place - lower))


class FinerCoder(StepCoder):
    """Passes a walk on to a coder of latents y that are larger by a factor, whose logarithms are
    ``log_fineness`` (B,)."""

    def __init__(self, coder: StepCoder, log_fineness: Tensor, scales: SmallScales) -> None:
        self._coder = coder
        self._scales = scales
        self._grid = scales.grid
        self._log = log_fineness[:, None, None]
        self._factor = scales.exp(self._log)
        # without a step where fineness sets in
        self._share = (ONSET * self._log).clamp(max=1.0)

    def code(self, sites: Sequence[Site], prior_of: PriorOf) -> list[Tensor]:
        if sites[0].latent != "y":
            return self._coder.code(sites, prior_of)

        def finer(values: Sequence[Tensor]) -> Prior:
            prior = prior_of([self._coarser(rows) for rows in values])
            correction = self._scales(prior.log_scale, sites[len(values)].channels)
            correction = self._grid(self._share * correction)
            log_scale = prior.log_scale + correction + self._log
            return Prior(self._grid(prior.mean * self._factor), log_scale)

        return [self._coarser(rows) for rows in self._coder.code(sites, finer)]

    def _coarser(self, rows: Tensor) -> Tensor:
        return self._grid(rows / self._factor)

    def _code_sub_group(self, site: Site, prior: Prior) -> Tensor:
        raise AssertionError("the coder inside codes")
