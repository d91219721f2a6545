"""Elementwise operations and norms in fixed point: the same numbers on every device."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from mambaic_kernels.dispatch import module_for
from mambaic_kernels.fixed_point import cpu, reference

_backend = partial(module_for, __name__)


def to_grid(x: Tensor) -> Tensor:
    """The nearest multiples of ``reference.UNIT``, halves to even."""
    return _backend(x).to_grid(x)


def to_levels(x: Tensor, per_step: float, most: float) -> Tensor:
    """Integers in [-most, most] of x in steps of 1 / per_step."""
    return _backend(x).to_levels(x, per_step, most)


def to_digits(x: Tensor, per_step: float, most: float, channel: int) -> Tensor:
    """Those of ``to_levels`` as two digits of a byte, dense with ``channel`` last in memory: see
    ``reference.to_digits``."""
    as_map = channel == 1 and x.ndim == 4
    x = x.contiguous(memory_format=torch.channels_last) if as_map else x.contiguous()
    backend = cpu if _backend(x) is cpu else reference
    return backend.to_digits(x, per_step, most)


def rescale(sums: Tensor, multiplier: Tensor, bias: Tensor, channel: int) -> Tensor:
    """Multiples of UNIT of integers ``sums`` times ``multiplier`` (C,), plus ``bias`` (C,) or (1,),
    along the dimension ``channel`` of ``sums``, which may be overwritten."""
    backend = _backend(sums)
    last = sums if channel == -1 else sums.movedim(channel, -1)
    if backend is cpu and last.is_contiguous():
        cpu.rescale(last, multiplier, bias)
        return sums
    if backend not in (cpu, reference):
        rescaled: Tensor = backend.rescale(sums, multiplier, bias, channel)
        return rescaled
    shape = [1] * sums.ndim
    shape[channel] = -1
    return reference.rescale(sums, multiplier.view(shape), bias.view(shape))


def rescale_digits(
    sums: Tensor, zero: Tensor, multiplier: Tensor, bias: Tensor, channel: int
) -> Tensor:
    """``rescale`` of sums (2 B, ...) of products with digits, those of zeros ``zero`` (C,):
    (B, ...); overwrites them."""
    return _of_digits("rescale_digits", sums, zero, multiplier, bias, channel)


def weigh_digits(
    sums: Tensor, zero: Tensor, multiplier: Tensor, bias: Tensor, channel: int
) -> Tensor:
    """As ``rescale_digits``, and not rounded: for networks that need not be in fixed point."""
    return _of_digits("weigh_digits", sums, zero, multiplier, bias, channel)


def _of_digits(
    name: str, sums: Tensor, zero: Tensor, multiplier: Tensor, bias: Tensor, channel: int
) -> Tensor:
    last = sums if channel == -1 else sums.movedim(channel, -1)
    if _backend(sums) is cpu and last.is_contiguous():
        found: Tensor = getattr(cpu, name)(sums, zero, multiplier, bias)
        return found
    shape = [1] * sums.ndim
    shape[channel] = -1
    per_channel = (of.view(shape) for of in (zero, multiplier, bias))
    found = getattr(reference, name)(sums, *per_channel)
    return found


def look_up(x: Tensor, values: Tensor, low: float, per_unit: float) -> Tensor:
    """``values`` at x in steps of 1 / per_unit from ``low``; beyond, those at the ends."""
    return _backend(x).look_up(x, values, low, per_unit)


def softplus(x: Tensor, values: Tensor, per_unit: float) -> Tensor:
    """max(x, 0) plus ``values`` at |x| in steps of 1 / per_unit."""
    return _backend(x).softplus(x, values, per_unit)


def shares(
    products: Tensor, bias: Tensor, powers: Tensor, per_unit: float, per_step: float, parts: float
) -> Tensor:
    """Integers that share out about ``parts`` among the keys of every query, as a softmax does;
    overwrites ``products``: see ``reference.shares``."""
    return _backend(products).shares(products, bias, powers, per_unit, per_step, parts)


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
