"""The definition: plain torch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mambaic_kernels.grids import Grids, put, take


class Scales(NamedTuple):
    """The log-scale of index 0, the distance of two, and the last position."""

    low: float
    step: float
    last: float

    def position(self, log_scale: Tensor) -> Tensor:
        """Continuous index: index k covers [k, k + 1). Clamped to the first and last."""
        return ((log_scale - self.low) / self.step + 0.5).clamp(0.0, self.last)


def indices(log_scale: Tensor, scales: Scales) -> Tensor:
    """See ``mambaic_kernels.coding_order.indices``."""
    return scales.position(log_scale.mT.flatten(1).double()).long()


def residuals_and_indices(
    full: Tensor, first: int, grids: Grids, mean: Tensor, log_scale: Tensor, scales: Scales
) -> Tensor:
    """See ``mambaic_kernels.coding_order.residuals_and_indices``."""
    own = take(full[:, first : first + mean.shape[-1]], grids)
    residuals = (own.double() - mean).mT.flatten(1)
    return torch.stack([residuals, indices(log_scale, scales).double()])


def add_errors(
    error: Tensor, log_scale: Tensor, weights: Tensor, grids: Grids, most: float
) -> None:
    """See ``mambaic_kernels.coding_order.add_errors``."""
    squares = torch.exp(2 * log_scale).clamp(max=most).to(weights.dtype)
    height, width = error.shape[-2:]
    error += put(squares @ weights, (height, width), grids)
