"""Elementwise operations and norms in fixed point: the same numbers on every device."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from mambaic_kernels.dispatch import module_for
from mambaic_kernels.fixed_point import cpu

_backend = partial(module_for, __name__)


def to_grid(x: Tensor) -> Tensor:
    """The nearest multiples of ``reference.UNIT``, halves to even."""
    return _backend(x).to_grid(x)


def to_levels(x: Tensor, per_step: float, most: float) -> Tensor:
    """Integers in [-most, most] of x in steps of 1 / per_step."""
    return _backend(x).to_levels(x, per_step, most)


def leaky(x: Tensor, slope: float) -> Tensor:
    """The larger of x and multiples of UNIT of slope * x."""
    if _backend(x) is cpu:
        return cpu.leaky(x, slope)
    return x.maximum(to_grid(x * slope))


def look_up(x: Tensor, values: Tensor, low: float, per_unit: float) -> Tensor:
    """``values`` at x in steps of 1 / per_unit from ``low``; beyond, those at the ends."""
    return _backend(x).look_up(x, values, low, per_unit)


def silu(x: Tensor, values: Tensor, low: float, per_unit: float) -> Tensor:
    """Multiples of UNIT of x times ``look_up``."""
    backend = _backend(x)
    if backend is cpu:
        return cpu.silu(x, values, low, per_unit)
    return to_grid(backend.look_up(x, values, low, per_unit).mul_(x))


def softplus(x: Tensor, values: Tensor, per_unit: float) -> Tensor:
    """max(x, 0) plus ``values`` at |x| in steps of 1 / per_unit."""
    return _backend(x).softplus(x, values, per_unit)


def look_up_octaves(v: Tensor, values: Tensor, shift: int, first: int) -> Tensor:
    """``values`` by the leading bits of v >= 1: ``bits >> shift - first``, at most the last."""
    return _backend(v).look_up_octaves(v, values, shift, first)


def feature_levels(
    y: Tensor, values: Tensor, shift: int, first: int, per_step: float, most: float
) -> Tensor:
    """Integers (B, 2C, H, W) of what is told of latents y (B, C, H, W): see ``reference``."""
    return _backend(y).feature_levels(y, values, shift, first, per_step, most)


def norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    fine: tuple[float, float, float],
    coarse: tuple[float, float, float],
    eps: float,
) -> Tensor:
    """Layer norm over the last dimension, weight and bias (C,). ``fine`` and ``coarse``: steps per
    unit, most steps, and what one of the sum of the levels, of their squares, adds to mean and
    variance."""
    return _backend(x).norm(x, weight, bias, fine, coarse, eps)
