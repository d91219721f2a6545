"""The fixed-point operations by numba: one pass over memory each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mambaic_kernels.fixed_point.reference import PER_UNIT, UNIT
from mambaic_kernels.simd import cut, exact_jit, f32, run

SERIAL = 1 << 16  # elements under which threads cost more than they give
AT_ONCE = 1024  # look-ups
BLOCK = 1 << 15  # of what a thread works on at a time
_PER_UNIT, _UNIT = f32(PER_UNIT), f32(UNIT)


@exact_jit(nogil=True)
def _to_grid(x, out, first, last):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        out[i] = np.rint(x[i] * _PER_UNIT) * _UNIT


@exact_jit(nogil=True)
def _to_levels(x, out, per_step, most, first, last):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        out[i] = min(max(np.rint(x[i] * per_step), -most), most)


@exact_jit(nogil=True)
def _rescale(sums, multiplier, bias, first, last):  # type: ignore[no-untyped-def]
    channels = len(multiplier)
    for row in range(first, last):
        own = sums[row]
        for c in range(channels):
            own[c] = np.rint(own[c] * multiplier[c]) * _UNIT + bias[c]


@exact_jit(nogil=True)
def _look_up(x, out, values, low, per_unit, first, last):  # type: ignore[no-untyped-def]
    end = f32(len(values) - 1)
    place = np.empty(AT_ONCE, np.int32)
    for start in range(first, last, AT_ONCE):
        count = min(AT_ONCE, last - start)
        # look-ups in a loop of their own: LLVM makes no vectors of one that has them
        for i in range(count):
            at = np.rint((x[start + i] - low) * per_unit)
            place[i] = np.int32(min(max(at, f32(0)), end))
        for i in range(count):
            out[start + i] = values[np.uint32(place[i])]


@exact_jit(nogil=True)
def _softplus(x, out, values, per_unit, first, last):  # type: ignore[no-untyped-def]
    end = f32(len(values) - 1)
    place = np.empty(AT_ONCE, np.int32)
    for start in range(first, last, AT_ONCE):
        count = min(AT_ONCE, last - start)
        for i in range(count):
            place[i] = np.int32(min(np.rint(abs(x[start + i]) * per_unit), end))
        for i in range(count):
            out[start + i] = values[np.uint32(place[i])]
        for i in range(count):
            out[start + i] += max(x[start + i], f32(0))


@exact_jit(nogil=True)
def _shares(products, bias, powers, per_unit, scales, first, last):  # type: ignore[no-untyped-def]
    keys = products.shape[1]
    per_step, all_shares = scales
    end = f32(len(powers) - 1)
    place = np.empty(keys, np.int32)
    for row in range(first, last):
        own, beside = products[row], bias[row % len(bias)]
        most = f32(-np.inf)
        for key in range(keys):
            logit = np.rint(own[key] * per_unit * _PER_UNIT) * _UNIT
            own[key] = logit + np.rint(beside[key] * _PER_UNIT) * _UNIT
            most = max(most, own[key])
        for key in range(keys):
            place[key] = np.int32(min(np.rint((most - own[key]) * per_step), end))
        for key in range(keys):
            own[key] = powers[np.uint32(place[key])]
        total = np.int32(0)
        for key in range(keys):
            total += np.int32(own[key])
        for key in range(keys):
            own[key] = np.rint(own[key] * all_shares / f32(total))


@exact_jit(nogil=True)
def _look_up_octaves(bits, out, values, shift, start, first, last):  # type: ignore[no-untyped-def]
    end = np.int32(len(values) - 1)
    for i in range(first, last):
        cell = min(max((bits[i] >> shift) - start, np.int32(0)), end)
        out[i] = values[np.uint32(cell)]


@exact_jit(nogil=True)
def _norm(x, out, weight, bias, fine, coarse, eps, first, last):  # type: ignore[no-untyped-def]
    width = x.shape[1]
    centred = np.empty(width, np.float32)
    for row in range(first, last):
        own, to = x[row], out[row]
        total = np.int32(0)
        for c in range(width):
            total += np.int32(min(max(np.rint(own[c] * fine[0]), -fine[1]), fine[1]))
        mean = f32(total) * fine[2]
        squares = np.int32(0)
        for c in range(width):
            d = own[c] - mean
            centred[c] = d
            level = np.int32(min(max(np.rint(d * coarse[0]), -coarse[1]), coarse[1]))
            squares += level * level
        deviation = np.sqrt(max(f32(squares) * coarse[2], eps))
        for c in range(width):
            to[c] = np.rint(centred[c] / deviation * weight[c] * _PER_UNIT) * _UNIT + bias[c]


def _spread(task: Callable[..., None], count: int, size: int) -> None:
    """task(first, last) over ``count`` items of ``size`` elements."""
    if count * size < SERIAL:
        task(0, count)
        return
    blocks = cut(count, torch.get_num_threads(), max(16, BLOCK // size))
    run(lambda index, first, last: task(first, last), blocks)


def _flat(x: Tensor) -> np.ndarray:
    """The elements in the order of memory; ``x`` is dense."""
    if not x.is_contiguous():
        x = x.permute(0, 2, 3, 1)
    return np.asarray(x.reshape(-1).numpy())


def _dense(x: Tensor) -> Tensor:
    """``x``, or a copy if its memory has gaps."""
    if x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)):
        return x
    return x.contiguous()


def _elementwise(kernel: Callable[..., None], x: Tensor, *more: Any) -> Tensor:
    x = _dense(x)
    out = torch.empty_like(x)
    count = x.numel()
    if count < SERIAL and x.is_contiguous():  # the least work around it: there are many of them
        kernel(x.view(-1).numpy(), out.view(-1).numpy(), *more, 0, count)
        return out
    source, target = _flat(x), _flat(out)
    _spread(lambda first, last: kernel(source, target, *more, first, last), count, 1)
    return out


def to_grid(x: Tensor) -> Tensor:
    """As ``reference.to_grid``."""
    return _elementwise(_to_grid, x)


def to_levels(x: Tensor, per_step: float, most: float) -> Tensor:
    """As ``reference.to_levels``."""
    return _elementwise(_to_levels, x, f32(per_step), f32(most))


def rescale(sums: Tensor, multiplier: Tensor, bias: Tensor) -> Tensor:
    """As ``reference.rescale``, of channels that are dense in memory."""
    channels = multiplier.numel()
    rows = _flat(sums).reshape(-1, channels)
    factors, shifts = (t.reshape(-1).numpy() for t in (multiplier, bias.expand_as(multiplier)))
    _spread(lambda first, last: _rescale(rows, factors, shifts, first, last), len(rows), channels)
    return sums


def look_up(x: Tensor, values: Tensor, low: float, per_unit: float) -> Tensor:
    """As ``reference.look_up``."""
    return _elementwise(_look_up, x, values.numpy(), f32(low), f32(per_unit))


def softplus(x: Tensor, values: Tensor, per_unit: float) -> Tensor:
    """As ``reference.softplus``."""
    return _elementwise(_softplus, x, values.numpy(), f32(per_unit))


def shares(
    products: Tensor, bias: Tensor, powers: Tensor, per_unit: float, per_step: float, parts: float
) -> Tensor:
    """As ``reference.shares``; overwrites ``products`` (n, heads, S, S)."""
    keys = products.shape[-1]
    rows = products.view(-1, keys).numpy()
    if bias.shape[1:] != products.shape[1:]:
        bias = bias.expand_as(products)
    beside, table = bias.reshape(-1, keys).numpy(), powers.numpy()
    scales = f32(per_step), f32(parts)
    _spread(
        lambda first, last: _shares(rows, beside, table, f32(per_unit), scales, first, last),
        len(rows),
        keys,
    )
    return products


def look_up_octaves(v: Tensor, values: Tensor, shift: int, first: int) -> Tensor:
    """As ``reference.look_up_octaves``."""
    v = _dense(v)
    out = torch.empty_like(v)
    bits, target, table = _flat(v).view(np.int32), _flat(out), values.numpy()
    start, by = np.int32(first), np.int32(shift)
    _spread(lambda a, b: _look_up_octaves(bits, target, table, by, start, a, b), v.numel(), 1)
    return out


def norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    fine: tuple[float, float, float],
    coarse: tuple[float, float, float],
    eps: float,
) -> Tensor:
    """As ``reference.norm``."""
    x = x.contiguous()
    out = torch.empty_like(x)
    width = x.shape[-1]
    source, target = (t.view(-1, width).numpy() for t in (x, out))
    constants = (
        weight.numpy(), bias.numpy(),
        np.array(fine, np.float32), np.array(coarse, np.float32), f32(eps),
    )  # fmt: skip
    _spread(lambda first, last: _norm(source, target, *constants, first, last), len(source), width)
    return out
