"""The definition: plain torch, one operation after the other."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mambaic_kernels.fixed_point.activation import Activation, activate
from mambaic_kernels.fixed_point.reference import look_up_octaves, to_grid

MAGNITUDES = 3  # features of a coded latent that are even in its sign
DEVIATIONS_MAX = 4.0
LEAST_VARIANCE = 0.25


class Tables(NamedTuple):
    """Of exp, of log at v >= 1 by its leading bits (``look_up_octaves``), of the sigmoid function;
    and the least and largest log-scale."""

    exp: Activation
    log: Tensor
    shift: int
    first: int
    sigmoid: Activation
    bounds: tuple[float, float]


def normalised(
    coded: Tensor, mean: Tensor, log_scale: Tensor, tables: Tables
) -> tuple[Tensor, Tensor]:
    """See ``mambaic_kernels.sub_groups.normalised``."""
    bounded = log_scale.clamp(*tables.bounds)
    residual = coded - mean
    deviation = to_grid(residual / activate(bounded, tables.exp))
    deviation = deviation.clamp(-DEVIATIONS_MAX, DEVIATIONS_MAX)
    variance = activate(2 * bounded, tables.exp) + LEAST_VARIANCE
    ratio = to_grid(residual.square() / variance) + 1.0
    energy = look_up_octaves(ratio, tables.log, tables.shift, tables.first)
    expected = activate(2 * log_scale, tables.sigmoid)
    return deviation, torch.cat([energy, expected, deviation.abs()], dim=-1)


def moved(mean: Tensor, log_scale: Tensor, by: Tensor, tables: Tables) -> Tensor:
    """See ``mambaic_kernels.sub_groups.moved``."""
    scale = activate(log_scale.clamp(*tables.bounds), tables.exp)
    return mean + to_grid(scale * by)
