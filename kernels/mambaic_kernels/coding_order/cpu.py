"""Indices by numba, in one pass over memory; what else there is by torch."""

from __future__ import annotations

import torch
from torch import Tensor

from mambaic_kernels.coding_order.reference import Scales, add_errors
from mambaic_kernels.entropy_coder.sub_groups import scale_indices
from mambaic_kernels.grids import Grids, take

__all__ = ["add_errors", "indices", "residuals_and_indices"]


def indices(log_scale: Tensor, scales: Scales) -> Tensor:
    """See ``mambaic_kernels.coding_order.indices``."""
    batch, count, channels = log_scale.shape
    out = torch.empty(batch, channels, count, dtype=torch.int64)
    for of_picture, found in zip(log_scale.detach().numpy(), out.numpy(), strict=True):
        scale_indices(of_picture, *scales, found)
    return out.flatten(1)


def residuals_and_indices(
    full: Tensor, first: int, grids: Grids, mean: Tensor, log_scale: Tensor, scales: Scales
) -> Tensor:
    """See ``mambaic_kernels.coding_order.residuals_and_indices``."""
    own = take(full[:, first : first + mean.shape[-1]], grids)
    out = torch.empty(2, len(mean), mean[0].numel(), dtype=torch.float64)
    rows = out[0].view(len(mean), mean.shape[-1], -1).mT
    torch.sub(own.double(), mean, out=rows)
    out[1] = indices(log_scale, scales)
    return out
