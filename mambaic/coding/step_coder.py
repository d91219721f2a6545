"""What drives the walk over the coding order, and what its three interpreters share.

The interpreters are ``estimator``, ``encoder`` and ``decoder``.

The scale index of a latent must be the same in encoder and decoder although their arithmetic
differs in the last bits. Files are therefore coded in float64, and the encoder records the latents
whose continuous index lies within MARGIN of a boundary: there the decoder obeys the record, which
comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mambaic.coding import quantiser
from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import Site, as_rows, in_order
from mambaic.coding.tables import scale_position, values

# in units of one scale index (a factor of 1.13 in scale); docs/reliability.md has the drift that it
# must cover (under 1e-11) and its cost (under 0.01 % of a file)
MARGIN = 1e-6

# from the values of a slice, rows (B, n, C), the slice that comes next in the same step and the
# prior of its first ``quantiser.LOOK`` positions
Ahead = Callable[[Tensor], tuple[Site, Prior]]


class StepCoder(Protocol):
    """What drives the walk over the coding order."""

    def code(self, site: Site, prior: Prior, ahead: Ahead | None = None) -> Tensor:
        """Code the latents at ``site``; return their dequantised values, rows (B, n, C) as the
        prior's. An encoder may look ``ahead``."""


def ordered_residuals(rows: Tensor) -> np.ndarray:
    """Rows (B, n, C) in coding order, (B, C * n) float64."""
    return in_order(rows.detach()).double().cpu().numpy()


def ordered_scale_positions(log_scale: Tensor) -> np.ndarray:
    return scale_position(in_order(log_scale.detach()).double()).cpu().numpy()


def ordered_indices(log_scale: Tensor) -> np.ndarray:
    return np.floor(ordered_scale_positions(log_scale)).astype(np.int64)


def rows_like(ordered: np.ndarray, like: Tensor) -> Tensor:
    """Numbers (B, C * n) in coding order as rows, on the device of the rows ``like``."""
    return as_rows(torch.from_numpy(ordered), like.shape[-1]).to(like.device)


def look_ahead(
    ahead: Ahead | None, source: Callable[[Site], Tensor], mean: Tensor
) -> quantiser.Look | None:
    """What ``Search`` asks for, of the slice after one whose means are ``mean``; ``source`` gives
    the latents at a site."""
    if ahead is None:
        return None

    def look(symbols: np.ndarray, contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        site, prior = ahead(dequantise(symbols, contexts, mean))
        first = quantiser.beginning(source(site)) - quantiser.beginning(prior.mean)
        return ordered_residuals(first), ordered_indices(quantiser.beginning(prior.log_scale))

    return look


def dequantise(symbols: np.ndarray, contexts: np.ndarray, mean: Tensor) -> Tensor:
    """Latents, rows (B, n, C), of symbols in coding order; the same for encoder and decoder."""
    return values(rows_like(symbols, mean).to(mean.dtype), rows_like(contexts, mean)) + mean
