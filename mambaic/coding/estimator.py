"""Estimates bits of the walk instead of writing them.

Estimator                rate of files: the symbols that an encoder would write
  TrainingEstimator      gradients to latents and priors
    NoiseEstimator       rate of noisy latents, before a model has coding tables
    TableEstimator       rate of the coding tables, once it has them
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mambaic.coding import quantiser
from mambaic.coding.likelihood import Prior, ScaleMixture
from mambaic.coding.sites import Lattice, Site
from mambaic.coding.step_coder import (
    StepCoder,
    ordered_indices,
    ordered_residuals,
    rows_like,
    search_path,
)
from mambaic.coding.tables import count_magnitudes, values


class Part(NamedTuple):
    """Latents of some steps, (B, n) each: ``coded`` are symbols, in training residuals (quantised
    or noisy) in units of the spacing; then log-scales, table contexts, and the residuals in units
    of the spacing."""

    coded: Tensor
    log_scale: Tensor
    context: Tensor
    residual: Tensor


class Quantised(NamedTuple):
    """Rows (B, n, C) of one step: ``coded`` and ``context`` as in ``Part``, and the residuals that
    walk and synthesis see."""

    coded: Tensor
    context: Tensor
    residual: Tensor


class Estimator(StepCoder):
    """Counts the bits of a file: the same symbols, the same tables."""

    def __init__(self, latents: Mapping[str, Tensor], mixture: ScaleMixture) -> None:
        self._latents = latents
        self._mixture = mixture
        self._recorded: dict[str, list[Part]] = {}
        self._sources: dict[tuple[str, int, Lattice], tuple[Tensor, ...]] = {}
        self._search: quantiser.Search | None = None

    def _code_sub_group(self, site: Site, prior: Prior) -> Tensor:
        residual = self._residual(site, prior)
        quantised = self._quantise(site, residual, prior)
        spacing = quantiser.spacing(site.latent)
        part = Part(quantised.coded, prior.log_scale, quantised.context, residual / spacing)
        parts = self._recorded.setdefault(site.latent, [])
        parts.append(Part(*(rows.flatten(1) for rows in part)))
        return quantised.residual + prior.mean

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

    def likelihood(self, latent: str, part: Part) -> Tensor:
        """Likelihood of the latents of one part."""
        return self._mixture.coded_likelihood(part.coded, part.log_scale, part.context)

    def counts(self) -> np.ndarray:
        """``count_magnitudes`` of all symbols."""
        return np.sum([count_magnitudes(*part[:3]) for part in self._parts().values()], axis=0)

    def _residual(self, site: Site, prior: Prior) -> Tensor:
        return self._source(site) - prior.mean

    def _quantise(self, site: Site, residual: Tensor, prior: Prior) -> Quantised:
        search = self._path_search(len(residual))
        found = search_path(search, self._source, site, prior)
        symbols, context = (rows_like(part, residual) for part in found)
        symbols = symbols.to(residual.dtype)
        return Quantised(symbols, context, values(symbols, context))

    def _path_search(self, batch: int, *, rounded: bool = False) -> quantiser.Search:
        """The search of files; ``rounded`` as in ``quantiser.quantise``."""
        if self._search is None:
            tables = self._mixture.rates, self._mixture.skip
            self._search = quantiser.Search(batch, *tables, rounded=rounded)
        return self._search

    def _source(self, site: Site) -> Tensor:
        """The latents at a site. All sub-groups of a step are taken at once: the gradient of every
        part is a map of all latents."""
        step = site.of or site
        width = site.channels.stop - site.channels.start
        key = (step.latent, step.channels.start, step.lattice)
        if key not in self._sources:
            self._sources[key] = step.take(self._latents[site.latent]).split(width, dim=-1)
        return self._sources[key][(site.channels.start - step.channels.start) // width]

    def _parts(self) -> dict[str, Part]:
        return {
            latent: Part(*(torch.cat(rows, dim=1) for rows in zip(*parts, strict=True)))
            for latent, parts in self._recorded.items()
        }


class TrainingEstimator(Estimator):
    """Walk and synthesis see quantised latents; their gradient goes straight through."""

    def counts(self) -> np.ndarray:
        raise TypeError("training rates residuals, not symbols: count in eval mode")

    @abstractmethod
    def _rated(self, site: Site, residual: Tensor, quantised: Tensor, prior: Prior) -> Tensor:
        """The residuals that ``likelihood`` rates, in units of the spacing."""

    def _quantise(self, site: Site, residual: Tensor, prior: Prior) -> Quantised:
        symbols, context = self._search_alone(site, residual, prior)
        quantised = values(symbols, context)
        seen = self._seen(site, quantised, prior)
        return Quantised(
            coded=self._rated(site, residual, quantised, prior),
            context=context,
            residual=residual + (seen - residual).detach(),
        )

    def _seen(self, site: Site, quantised: Tensor, prior: Prior) -> Tensor:
        """Values that walk and synthesis see."""
        return quantised

    def _search_alone(self, site: Site, residual: Tensor, prior: Prior) -> tuple[Tensor, Tensor]:
        """Symbols and contexts, without a look at the next sub-group. A latent that files skip is
        rounded by itself: at 0 it could not learn that it is worth its bits."""
        if residual.device.type != "cpu":
            rates = self._mixture.quantiser_rates_on(residual.device)
            rows = residual.detach(), prior.log_scale.detach()
            return quantiser.quantise_on_gpu(site, *rows, rates)
        search = self._path_search(len(residual), rounded=True)
        # the trainer skips a step with NaN, but only at its end
        rows = residual.nan_to_num(), prior.log_scale.nan_to_num()
        found = search.find(site, ordered_residuals(rows[0]), ordered_indices(rows[1]))
        symbols, context = (rows_like(part, residual) for part in found)
        return symbols.to(residual.dtype), context


class NoiseEstimator(TrainingEstimator):
    """Rate of latents with uniform noise ([Minnen2020], arXiv:2007.08739, Sec. 3.3)."""

    def likelihood(self, latent: str, part: Part) -> Tensor:
        return self._mixture.likelihood(part.coded, part.log_scale, quantiser.spacing(latent))

    def _rated(self, site: Site, residual: Tensor, quantised: Tensor, prior: Prior) -> Tensor:
        return residual / quantiser.spacing(site.latent) + torch.rand_like(residual) - 0.5


class TableEstimator(TrainingEstimator):
    """Rate of files (``ScaleMixture.relaxed_bits``). Gradients reach latents and means by the
    expected response of the quantiser (``quantiser.response``), of the ``width`` given."""

    def __init__(
        self,
        latents: Mapping[str, Tensor],
        mixture: ScaleMixture,
        width: float = quantiser.WIDTH,
    ) -> None:
        super().__init__(latents, mixture)
        self._width = width

    def likelihood(self, latent: str, part: Part) -> Tensor:
        return torch.exp2(-self._mixture.relaxed_bits(*part))

    def _residual(self, site: Site, prior: Prior) -> Tensor:
        """With the gradient of what is quantised; none where a file skips the latent."""
        residual = super()._residual(site, prior)
        if not quantiser.uses_tcq(site):
            return residual
        fixed = residual.detach()
        slope = quantiser.response(fixed / quantiser.SPACING, self._width)
        slope = slope.masked_fill(self._mixture.skipped(prior.log_scale), 0.0)
        return fixed + slope * (residual - fixed)

    def _rated(self, site: Site, residual: Tensor, quantised: Tensor, prior: Prior) -> Tensor:
        return quantised / quantiser.spacing(site.latent)

    def _seen(self, site: Site, quantised: Tensor, prior: Prior) -> Tensor:
        if not quantiser.uses_tcq(site):
            return quantised
        return quantised.masked_fill(self._mixture.skipped(prior.log_scale), 0.0)
