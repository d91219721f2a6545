"""What coders ask of priors, in coding order (channel, then position); and the errors to expect."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mambaic_kernels.coding_order import reference
from mambaic_kernels.coding_order.reference import Scales
from mambaic_kernels.dispatch import module_for
from mambaic_kernels.grids import Grids

__all__ = ["Latents", "Scales", "add_errors", "indices", "residuals_and_indices"]


class Latents(NamedTuple):
    """A map (B, M, h, w) of which channels from ``first`` on are coded at ``grids``."""

    full: Tensor
    first: int
    grids: Grids


def indices(log_scale: Tensor, scales: Scales) -> Tensor:
    """Scale indices (B, C * n), integers, of log-scales in rows (B, n, C)."""
    found: Tensor = module_for(__name__, log_scale).indices(log_scale, scales)
    return found


def residuals_and_indices(
    latents: Latents, mean: Tensor, log_scale: Tensor, scales: Scales
) -> Tensor:
    """float64 (2, B, C * n): what latents are less their means, in rows (B, n, C), and indices."""
    if latents.full.dtype != torch.float32:
        return reference.residuals_and_indices(*latents, mean, log_scale, scales)
    found: Tensor = module_for(__name__, mean).residuals_and_indices(
        *latents, mean, log_scale, scales
    )
    return found


def add_errors(
    error: Tensor, log_scale: Tensor, weights: Tensor, grids: Grids, most: float
) -> None:
    """Adds to ``error`` (B, k, h, w) at ``grids`` the squares of scales of rows (B, n, C), each at
    most ``most``, weighted by ``weights`` (C, k)."""
    module_for(__name__, log_scale).add_errors(error, log_scale, weights, grids, most)
