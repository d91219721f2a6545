"""Estimates bits of the walk instead of writing them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mambaic.coding import quantiser
from mambaic.coding.likelihood import Prior, ScaleMixture
from mambaic.coding.sites import Lattice, Site
from mambaic.coding.step_coder import (
    Ahead,
    look_ahead,
    ordered_indices,
    ordered_residuals,
    rows_like,
)
from mambaic.coding.tables import count_magnitudes, values


class Part(NamedTuple):
    """Latents of some steps, (B, n) each: what is coded (symbols; in training residuals in units
    of their quantiser's spacing, quantised or noisy), log-scales, the set of tables, and the
    residuals themselves in units of the spacing."""

    coded: Tensor
    log_scale: Tensor
    context: Tensor
    residual: Tensor


class Estimator:
    """Counts bits instead of writing them; differentiable.

    In training, walk and synthesis see the quantised latents. Where the model has tables the rate
    is that of files (``ScaleMixture.relaxed_bits``), and gradients reach latents and means by the
    expected response of the quantiser (``quantiser.response``). Before, the rate is that of noisy
    latents, and gradients go straight through ([Minnen2020], arXiv:2007.08739, Sec. 3.3).
    """

    def __init__(
        self,
        latents: Mapping[str, Tensor],
        mixture: ScaleMixture,
        *,
        training: bool,
        width: float = quantiser.WIDTH,
    ) -> None:
        """``width`` of the response to residuals in training."""
        self._latents = latents
        self._mixture = mixture
        self._training = training
        self._width = width
        self._steps: dict[str, list[Part]] = {}
        self._sources: dict[tuple[str, int, Lattice], tuple[Tensor, ...]] = {}
        self._search: quantiser.Search | None = None

    def code(self, site: Site, prior: Prior, ahead: Ahead | None = None) -> Tensor:
        residual = self._source(site) - prior.mean
        if self._training and self._mixture.tables is not None and quantiser.uses_tcq(site):
            residual = self._followed(residual, prior)
        coded, context, quantised = self.quantise(site, residual, prior, ahead)
        step = Part(coded, prior.log_scale, context, residual / quantiser.spacing(site.latent))
        steps = self._steps.setdefault(site.latent, [])
        steps.append(Part(*(rows.flatten(1) for rows in step)))
        return quantised + prior.mean

    def _followed(self, residual: Tensor, prior: Prior) -> Tensor:
        """The residual with the gradient of what is quantised; what a file leaves out has none."""
        fixed = residual.detach()
        slope = quantiser.response(fixed / quantiser.SPACING, self._width)
        slope = slope.masked_fill(self._mixture.skipped(prior.log_scale), 0.0)
        return fixed + slope * (residual - fixed)

    def _source(self, site: Site) -> Tensor:
        """The latents at a site. All slices of a step are taken at once: the gradient of every cut
        is a map of all latents."""
        step = site.of or site
        width = site.channels.stop - site.channels.start
        key = (step.latent, step.channels.start, step.lattice)
        if key not in self._sources:
            self._sources[key] = step.take(self._latents[site.latent]).split(width, dim=-1)
        return self._sources[key][(site.channels.start - step.channels.start) // width]

    def quantise(
        self, site: Site, residual: Tensor, prior: Prior, ahead: Ahead | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Residuals as they are coded, their tables, and as walk and synthesis see them."""
        if self._training and residual.device.type != "cpu":
            rates = self._mixture.quantiser_rates_on(residual.device)
            rows = residual.detach(), prior.log_scale.detach()
            symbols, context = quantiser.quantise_on_gpu(site, *rows, rates)
        else:
            # in training a latent that a file leaves out is coded as if rounded by itself: at 0 it
            # could not learn that it is worth its bits; and nobody looks ahead
            look = None if self._training else look_ahead(ahead, self._source, prior.mean)
            if self._search is None:
                tables = self._mixture.rates, self._mixture.skip
                self._search = quantiser.Search(len(residual), *tables, rounded=self._training)
            rows = residual, prior.log_scale
            if self._training:  # the trainer skips a step with NaN, but only at its end
                rows = rows[0].nan_to_num(), rows[1].nan_to_num()
            ordered = ordered_residuals(rows[0]), ordered_indices(rows[1])
            found = self._search.find(site, *ordered, look)
            symbols, context = (rows_like(part, prior.mean) for part in found)
            symbols = symbols.to(residual.dtype)
        quantised = values(symbols, context)
        if not self._training:
            return symbols, context, quantised
        if self._mixture.tables is None:
            coded = residual / quantiser.spacing(site.latent) + torch.rand_like(residual) - 0.5
        else:
            coded = quantised / quantiser.spacing(site.latent)
            if quantiser.uses_tcq(site):
                quantised = quantised.masked_fill(self._mixture.skipped(prior.log_scale), 0.0)
        return coded, context, residual + (quantised - residual).detach()

    def bits(self, latent: str | None = None) -> Tensor:
        """Estimated bits per image (B,), of one latent or of all."""
        total: Tensor | float = 0.0
        for name, likelihood in self.likelihoods().items():
            if latent in (None, name):
                total = total - torch.log2(likelihood).sum(dim=1)
        assert isinstance(total, Tensor), "the walk visited nothing"
        return total

    def likelihoods(self) -> dict[str, Tensor]:
        """Likelihood of every value of each latent, (B, n), step after step; 1 where it is not
        coded."""
        return {latent: self.likelihood(latent, part) for latent, part in self._parts().items()}

    def _parts(self) -> dict[str, Part]:
        return {
            latent: Part(*(torch.cat(rows, dim=1) for rows in zip(*steps, strict=True)))
            for latent, steps in self._steps.items()
        }

    def likelihood(self, latent: str, part: Part) -> Tensor:
        """Likelihood of the latents of one part."""
        if not self._training:
            return self._mixture.coded_likelihood(part.coded, part.log_scale, part.context)
        if self._mixture.tables is not None:
            return torch.exp2(-self._mixture.relaxed_bits(*part))
        return self._mixture.likelihood(part.coded, part.log_scale, quantiser.spacing(latent))

    def counts(self) -> np.ndarray:
        """``count_magnitudes`` of all symbols."""
        assert not self._training, "only symbols can be counted"
        return np.sum([count_magnitudes(*part[:3]) for part in self._parts().values()], axis=0)
