"""The fixed-point operations by numba: one pass over memory each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mambaic_kernels.fixed_point.reference import DIGIT_ZERO, PER_UNIT, UNIT, digit_count
from mambaic_kernels.fixed_point.rows import SERIAL, rows_of, spread
from mambaic_kernels.simd import exact_jit, f32, float_bits

AT_ONCE = 1024  # look-ups
_PER_UNIT, _UNIT = f32(PER_UNIT), f32(UNIT)


# Elementwise kernels are given what they work on whole: LLVM makes vectors of loops from 0 to the
# length of an array, and none of those from one index to another, which numba lets be negative.
# Bounds are the first arguments of min and max: NaN, which only a broken mathematics library makes,
# then reads an end of a table, and nothing beyond it.


@exact_jit(nogil=True)
def _to_grid(x, out):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        out[i] = np.rint(x[i] * _PER_UNIT) * _UNIT


@exact_jit(nogil=True)
def _to_levels(x, out, per_step, most):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        out[i] = min(max(np.rint(x[i] * per_step), -most), most)


@exact_jit(nogil=True)
def _leaky(x, out, slope):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        out[i] = max(x[i], np.rint(x[i] * slope * _PER_UNIT) * _UNIT)


@exact_jit(nogil=True)
def _look_up(x, out, values, low, per_unit):  # type: ignore[no-untyped-def]
    end = f32(len(values) - 1)
    place = np.empty(AT_ONCE, np.int32)
    for start in range(0, len(x), AT_ONCE):
        own, to = x[start : start + AT_ONCE], out[start : start + AT_ONCE]
        # look-ups in a loop of their own: LLVM makes no vectors of one that has them
        for i in range(len(own)):
            at = np.rint((own[i] - low) * per_unit)
            place[i] = np.int32(min(max(f32(0), at), end))
        for i in range(len(own)):
            to[i] = values[np.uint32(place[i])]


@exact_jit(nogil=True)
def _silu(x, out, values, low, per_unit, first, last):  # type: ignore[no-untyped-def]
    memory, step, _, channels = x
    end = f32(len(values) - 1)
    place = np.empty(channels, np.int32)
    for row in range(first, last):
        own, to = memory[row * step : row * step + channels], out[row]
        for c in range(channels):
            place[c] = np.int32(min(max(f32(0), np.rint((own[c] - low) * per_unit)), end))
        for c in range(channels):
            to[c] = values[np.uint32(place[c])]
        for c in range(channels):
            to[c] = np.rint(to[c] * own[c] * _PER_UNIT) * _UNIT


@exact_jit(nogil=True)
def _softplus(x, out, values, per_unit):  # type: ignore[no-untyped-def]
    end = f32(len(values) - 1)
    place = np.empty(AT_ONCE, np.int32)
    for start in range(0, len(x), AT_ONCE):
        own, to = x[start : start + AT_ONCE], out[start : start + AT_ONCE]
        for i in range(len(own)):
            place[i] = np.int32(min(end, np.rint(abs(own[i]) * per_unit)))
        for i in range(len(own)):
            to[i] = values[np.uint32(place[i])]
        for i in range(len(own)):
            to[i] += max(own[i], f32(0))


@exact_jit(nogil=True)
def _look_up_octaves(bits, out, values, shift, start):  # type: ignore[no-untyped-def]
    end = np.int32(len(values) - 1)
    place = np.empty(AT_ONCE, np.int32)
    for first in range(0, len(bits), AT_ONCE):
        own, to = bits[first : first + AT_ONCE], out[first : first + AT_ONCE]
        for i in range(len(own)):
            place[i] = min(max((own[i] >> shift) - start, np.int32(0)), end)
        for i in range(len(own)):
            to[i] = values[np.uint32(place[i])]


@exact_jit(inline="always")
def _magnitude_levels(own, place, found, values, shift, start, per_step, most):  # type: ignore[no-untyped-def]
    end = np.int32(len(values) - 1)
    for i in range(len(own)):
        cell = (float_bits(abs(own[i]) + f32(1)) >> shift) - start
        place[i] = min(max(cell, np.int32(0)), end)
    for i in range(len(own)):
        found[i] = values[np.uint32(place[i])]
    for i in range(len(own)):
        found[i] = min(max(np.rint(found[i] * per_step), -most), most)


@exact_jit(nogil=True)
def _feature_levels(y, out, values, shift, start, levels, channels, first, last):  # type: ignore[no-untyped-def]
    per_step, most = levels
    at_once = max(1, AT_ONCE // channels)  # rows: those of few channels are short
    place, found = np.empty(at_once * channels, np.int32), np.empty(at_once * channels, np.float32)
    for row in range(first, last, at_once):
        own = y[row * channels : min(row + at_once, last) * channels]
        _magnitude_levels(own, place, found, values, shift, start, per_step, most)
        for i in range(len(own) // channels):
            to = out[row + i]
            for c in range(channels):
                level = found[i * channels + c]
                to[c] = -level if own[i * channels + c] < f32(0) else level
                to[channels + c] = level


@exact_jit(inline="always")
def _beside(signed, plain, rows, channels, first, count):  # type: ignore[no-untyped-def]
    for i in range(count):
        row, at = rows[first + i], i * channels
        for c in range(channels):
            row[c] = signed[at + c]
            row[channels + c] = plain[at + c]


@exact_jit(nogil=True)
def _feature_digits(y, high, low, values, shift, start, levels, channels, first, last):  # type: ignore[no-untyped-def]
    per_step, most = levels
    at_once = max(1, AT_ONCE // channels)
    place, found = np.empty(at_once * channels, np.int32), np.empty(at_once * channels, np.float32)
    digit = np.empty((4, at_once * channels), np.uint8)
    shift_of_high = np.int32(4 if len(low) else 0)
    for row in range(first, last, at_once):
        own = y[row * channels : min(row + at_once, last) * channels]
        _magnitude_levels(own, place, found, values, shift, start, per_step, most)
        for i in range(len(own)):
            level = np.int32(found[i])
            signed = -level if own[i] < f32(0) else level
            digit[0, i] = np.uint8((signed >> shift_of_high) + DIGIT_ZERO)
            digit[1, i] = np.uint8((level >> shift_of_high) + DIGIT_ZERO)
            digit[2, i] = np.uint8((signed & 15) + DIGIT_ZERO)
            digit[3, i] = np.uint8((level & 15) + DIGIT_ZERO)
        _beside(digit[0], digit[1], high, channels, row, len(own) // channels)
        if len(low):
            _beside(digit[2], digit[3], low, channels, row, len(own) // channels)


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
        kernel(x.view(-1).numpy(), out.view(-1).numpy(), *more)
        return out
    source, target = _flat(x), _flat(out)
    spread(lambda a, b: kernel(source[a:b], target[a:b], *more), count, 1)
    return out


def to_grid(x: Tensor) -> Tensor:
    """As ``reference.to_grid``."""
    return _elementwise(_to_grid, x)


def to_levels(x: Tensor, per_step: float, most: float) -> Tensor:
    """As ``reference.to_levels``."""
    return _elementwise(_to_levels, x, f32(per_step), f32(most))


def leaky(x: Tensor, slope: float) -> Tensor:
    """See ``mambaic_kernels.fixed_point.leaky``."""
    return _elementwise(_leaky, x, f32(slope))


def look_up(x: Tensor, values: Tensor, low: float, per_unit: float) -> Tensor:
    """As ``reference.look_up``."""
    return _elementwise(_look_up, x, values.numpy(), f32(low), f32(per_unit))


def silu(x: Tensor, values: Tensor, low: float, per_unit: float) -> Tensor:
    """See ``mambaic_kernels.fixed_point.silu``."""
    out = torch.empty(x.shape, dtype=x.dtype)
    source, target = rows_of(x), out.view(-1, x.shape[-1]).numpy()
    constants = values.numpy(), f32(low), f32(per_unit)
    spread(lambda a, b: _silu(source, target, *constants, a, b), *source[2:])
    return out


def softplus(x: Tensor, values: Tensor, per_unit: float) -> Tensor:
    """As ``reference.softplus``."""
    return _elementwise(_softplus, x, values.numpy(), f32(per_unit))


def look_up_octaves(v: Tensor, values: Tensor, shift: int, first: int) -> Tensor:
    """As ``reference.look_up_octaves``."""
    v = _dense(v)
    out = torch.empty_like(v)
    bits, target, table = _flat(v).view(np.int32), _flat(out), values.numpy()
    start, by = np.int32(first), np.int32(shift)
    spread(lambda a, b: _look_up_octaves(bits[a:b], target[a:b], table, by, start), v.numel(), 1)
    return out


def feature_levels(
    y: Tensor, values: Tensor, shift: int, first: int, per_step: float, most: float
) -> Tensor:
    """As ``reference.feature_levels``."""
    batch, channels, height, width = y.shape
    out = y.new_empty(batch, height, width, 2 * channels)
    source = y.permute(0, 2, 3, 1).reshape(-1).numpy()
    target = out.view(-1, 2 * channels).numpy()
    constants = values.numpy(), np.int32(shift), np.int32(first), (f32(per_step), f32(most))
    operands = source, target, *constants, channels
    spread(lambda a, b: _feature_levels(*operands, a, b), len(target), channels)
    return out.permute(0, 3, 1, 2)


def feature_digits(
    y: Tensor, values: Tensor, shift: int, first: int, per_step: float, most: float
) -> Tensor:
    """``reference.to_digits`` of ``feature_levels``, channels last in memory."""
    batch, channels, height, width = y.shape
    out = torch.empty(digit_count(most) * batch, height, width, 2 * channels, dtype=torch.uint8)
    source = y.permute(0, 2, 3, 1).reshape(-1).numpy()
    high, low = np.split(out.view(-1, 2 * channels).numpy(), [batch * height * width])
    constants = values.numpy(), np.int32(shift), np.int32(first), (f32(per_step), f32(most))
    operands = source, high, low, *constants, channels
    spread(lambda a, b: _feature_digits(*operands, a, b), len(high), channels)
    return out.permute(0, 3, 1, 2)


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
    spread(lambda first, last: _norm(source, target, *constants, first, last), len(source), width)
    return out
