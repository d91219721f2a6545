"""What drives the walk over the coding order, and what its three interpreters share.

The interpreters are ``estimator``, ``encoder`` and ``decoder``.

Priors of files come from fixed-point networks, so the scale index of a latent is the same in
encoder and decoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from mambaic.coding import quantiser
from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import Site, as_rows, in_order
from mambaic.coding.tables import scale_position, values

ALL = slice(None)

# Prior of the next sub-group of a step at some positions, from the values there, rows (B, n, C), of
# the sub-groups before it.
PriorOf = Callable[[Sequence[Tensor], slice], Prior]


class Step:
    """A step of the walk under way: its sub-groups, and the values of those coded so far."""

    def __init__(self, sites: Sequence[Site], prior_of: PriorOf) -> None:
        self.sites = sites
        self.values: list[Tensor] = []
        self._prior_of = prior_of

    def prior(self) -> Prior:
        """Prior of the next sub-group. Ask once for each."""
        return self._prior_of(self.values, ALL)

    def beginning_after(self, values: Tensor) -> tuple[Site, Prior] | None:
        """The sub-group after the next one, and its prior at the first ``quantiser.LOOK`` positions
        if the next one had ``values``; None if there is none."""
        index = len(self.values) + 1
        if index == len(self.sites):
            return None
        first = slice(0, quantiser.LOOK)
        return self.sites[index], self._prior_of(
            [rows[:, first] for rows in (*self.values, values)], first
        )


class StepCoder(ABC):
    """Drives the walk over the coding order: estimates, writes or reads its latents."""

    def code(self, sites: Sequence[Site], prior_of: PriorOf) -> list[Tensor]:
        """Code the sub-groups of a step one after the other; return their dequantised values, rows
        (B, n, C)."""
        step = Step(sites, prior_of)
        for site in sites:
            step.values.append(self._code_sub_group(step, site, step.prior()))
        return step.values

    def code_alone(self, site: Site, prior: Prior) -> Tensor:
        """Code a step without sub-groups."""
        return self.code([site], lambda values, positions: prior.at(positions))[0]

    @abstractmethod
    def _code_sub_group(self, step: Step, site: Site, prior: Prior) -> Tensor:
        """Code the latents at ``site``; return their values, rows (B, n, C) as the prior's."""


def search_path(
    search: quantiser.Search, source: Callable[[Site], Tensor], step: Step, site: Site, prior: Prior
) -> tuple[np.ndarray, np.ndarray]:
    """Symbols and table contexts (B, n) of a sub-group by the search of files.

    A path leads on into the next sub-group, so its end is searched again with the beginning of
    that, once its prior is known. ``source`` gives the latents at a site.
    """
    residual = ordered_residuals(source(site) - prior.mean)
    indices = ordered_indices(prior.log_scale)
    symbols, contexts = search.find(site, residual, indices)
    following = step.beginning_after(dequantise(symbols, contexts, prior.mean))
    if following is None:
        return symbols, contexts
    next_site, next_prior = following
    first = quantiser.beginning(source(next_site)) - quantiser.beginning(next_prior.mean)
    ahead = ordered_residuals(first), ordered_indices(quantiser.beginning(next_prior.log_scale))
    return search.settle(site, symbols, residual, indices, ahead)


def ordered_residuals(rows: Tensor) -> np.ndarray:
    """Rows (B, n, C) in coding order, (B, C * n) float64."""
    return in_order(rows.detach()).double().cpu().numpy()


def ordered_indices(log_scale: Tensor) -> np.ndarray:
    """Scale indices (B, C * n) int64 of rows, in coding order."""
    return scale_position(in_order(log_scale.detach()).double()).long().cpu().numpy()


def rows_like(ordered: np.ndarray, like: Tensor) -> Tensor:
    """Numbers (B, C * n) in coding order as rows, on the device of the rows ``like``."""
    return as_rows(torch.from_numpy(ordered), like.shape[-1]).to(like.device)


def dequantise(symbols: np.ndarray, contexts: np.ndarray, mean: Tensor) -> Tensor:
    """Latents, rows (B, n, C), of symbols in coding order; the same for encoder and decoder."""
    return values(rows_like(symbols, mean).to(mean.dtype), rows_like(contexts, mean)) + mean
