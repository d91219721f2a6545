"""The numba passes of ``mambaic_kernels.mixture.reference``."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mambaic_kernels.simd import exp, f32, jit, scaled_erfc
from mambaic_kernels.threads import cut, run

BLOCK = 1 << 14  # elements of one call: their operands stay in the L2 cache
ROOT_HALF = f32(0.7071067811865476)
ROOT_PI = f32(0.5641895835477563)  # 1 / sqrt(pi)


@jit(inline="always")
def _interval(magnitude, inverse):  # type: ignore[no-untyped-def]
    """Mass of one Gaussian in the interval, the difference of the densities at its ends, and of
    the densities times the ends; densities as exp(-z**2) / sqrt(pi), z in deviations / sqrt 2."""
    a = (magnitude - f32(0.5)) * inverse
    b = (magnitude + f32(0.5)) * inverse
    at_a, at_b = exp(-a * a), exp(-b * b)
    tail = scaled_erfc(abs(a)) * at_a
    upper = tail if a >= f32(0.0) else f32(2.0) - tail
    mass = f32(0.5) * (upper - scaled_erfc(b) * at_b)
    return mass, ROOT_PI * (at_a - at_b), ROOT_PI * (a * at_a - b * at_b)


@jit(nogil=True)
def _forward(value, scale, weight, ratio, out, first, last):  # type: ignore[no-untyped-def]
    v, s, p = value[first:last], scale[first:last], out[first:last]
    shrink = f32(1.0) / ratio
    for i in range(last - first):
        inverse = ROOT_HALF / s[i]
        narrow, _, _ = _interval(abs(v[i]), inverse)
        wide, _, _ = _interval(abs(v[i]), inverse * shrink)
        p[i] = weight * narrow + (f32(1.0) - weight) * wide


@jit(nogil=True)
def _backward(grad, value, scale, weight, ratio, gvalue, gscale, first, last):  # type: ignore[no-untyped-def]
    """Writes the gradients of value and scale; returns those of weight and ratio."""
    g, v, s = grad[first:last], value[first:last], scale[first:last]
    gv, gs = gvalue[first:last], gscale[first:last]
    shrink, rest = f32(1.0) / ratio, f32(1.0) - weight
    by_weight, by_ratio = f32(0.0), f32(0.0)
    for i in range(last - first):
        one = f32(1.0) / s[i]
        inverse = ROOT_HALF * one
        magnitude = abs(v[i])
        narrow, fall, spread = _interval(magnitude, inverse)
        wide, fall_wide, spread_wide = _interval(magnitude, inverse * shrink)
        slope = -inverse * (weight * fall + rest * shrink * fall_wide)
        gv[i] = g[i] * (slope if v[i] > f32(0.0) else -slope)
        gs[i] = g[i] * one * (weight * spread + rest * spread_wide)
        by_weight += g[i] * (narrow - wide)
        by_ratio += g[i] * rest * shrink * spread_wide
    return by_weight, by_ratio


def _flat(like: Tensor, *tensors: Tensor) -> list[np.ndarray]:
    """Tensors as flat arrays in one order of memory: that of ``like``, which must be dense."""
    arrays = []
    for tensor in (like, *tensors):
        same = tensor.stride() == like.stride()
        dense = tensor if same else torch.empty_like(like).copy_(tensor)
        arrays.append(dense.detach().as_strided((dense.numel(),), (1,)).numpy())
    return arrays


def _dense(value: Tensor) -> Tensor:
    last = value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last)
    return value if last else value.contiguous()


def forward(value: Tensor, scale: Tensor, weight: Tensor, ratio: Tensor) -> Tensor:
    """See ``mambaic_kernels.mixture_mass``; float32, shapes of ``value`` and ``scale`` equal."""
    value = _dense(value)
    out = torch.empty_like(value)
    v, s, p = _flat(value, scale, out)
    shape = f32(weight.item()), f32(ratio.item())
    run(lambda _, first, last: _forward(v, s, *shape, p, first, last), _blocks(value))
    return out


def backward(
    grad: Tensor, value: Tensor, scale: Tensor, weight: Tensor, ratio: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of value, scale, weight and ratio."""
    value = _dense(value)
    gvalue, gscale = torch.empty_like(value), torch.empty_like(value)
    v, s, g, gv, gs = _flat(value, scale, grad, gvalue, gscale)
    shape = f32(weight.item()), f32(ratio.item())
    blocks = _blocks(value)
    sums = np.zeros((len(blocks), 2))

    def task(index: int, first: int, last: int) -> None:
        sums[index] = _backward(g, v, s, *shape, gv, gs, first, last)

    run(task, blocks)
    by_weight, by_ratio = sums.sum(axis=0)
    return gvalue, gscale, weight.new_tensor(by_weight), ratio.new_tensor(by_ratio)


def _blocks(value: Tensor) -> list[tuple[int, int]]:
    return cut(value.numel(), torch.get_num_threads(), BLOCK)
