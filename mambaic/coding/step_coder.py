"""What drives the walk over the coding order, and what its three interpreters share.

The interpreters are ``estimator``, ``encoder`` and ``decoder``.

Priors of files come from fixed-point networks, so the scale index of a latent is the same in
encoder and decoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from mambaic.coding import quantiser
from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import Site, as_rows, in_order
from mambaic.coding.tables import INDICES
from mambaic_kernels import coding_order, transfers

# Prior of the next sub-group of a step from the values, rows (B, n, C), of those before it. To be
# asked once for each.
PriorOf = Callable[[Sequence[Tensor]], Prior]


class StepCoder(ABC):
    """Drives the walk over the coding order: estimates, writes or reads its latents."""

    def code(self, sites: Sequence[Site], prior_of: PriorOf) -> list[Tensor]:
        """Code the sub-groups of a step one after the other; return their dequantised values, rows
        (B, n, C)."""
        values: list[Tensor] = []
        for site in sites:
            values.append(self._code_sub_group(site, prior_of(values)))
        return values

    def code_alone(self, site: Site, prior: Prior) -> Tensor:
        """Code a step without sub-groups."""
        return self.code([site], lambda values: prior)[0]

    @abstractmethod
    def _code_sub_group(self, site: Site, prior: Prior) -> Tensor:
        """Code the latents at ``site``; return their values, rows (B, n, C) as the prior's."""


def search_path(
    search: quantiser.Search, source: Callable[[Site], Tensor], site: Site, prior: Prior
) -> tuple[np.ndarray, np.ndarray]:
    """Symbols and table contexts (B, n) of a sub-group by the search of files. ``source`` gives the
    latents at a site."""
    residual = ordered_residuals(source(site) - prior.mean)
    return search.find(site, residual, ordered_indices(prior.log_scale))


def ordered_residuals(rows: Tensor) -> np.ndarray:
    """Rows (B, n, C) in coding order, (B, C * n) float64."""
    return transfers.to_host(in_order(rows.detach()).double())


def ordered_indices(log_scale: Tensor) -> np.ndarray:
    """Scale indices (B, C * n) int64 of rows, in coding order."""
    return transfers.to_host(coding_order.indices(log_scale.detach(), INDICES)).astype(
        np.int64, copy=False
    )


def residuals_and_indices(
    site: Site, latents: Tensor, prior: Prior
) -> tuple[np.ndarray, np.ndarray]:
    """Of latents (B, M, h, w), in one transfer: float64 and int64 (B, C * n)."""
    source = coding_order.Latents(latents, site.channels.start, site.lattice.value)
    operands = source, prior.mean, prior.log_scale, INDICES
    residuals, indices = transfers.to_host(coding_order.residuals_and_indices(*operands))
    return residuals, indices.astype(np.int64)


def rows_like(ordered: np.ndarray, like: Tensor) -> Tensor:
    """Numbers (B, C * n) in coding order as rows, on the device of the rows ``like``."""
    return as_rows(transfers.to_device(ordered, like.device), like.shape[-1])
