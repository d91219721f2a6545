"""What lies around a product on CPUs: one pass over memory before it, and one after it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mambaic_kernels.fixed_point.activation import LEAKY, SILU, SOFTPLUS, Activation
from mambaic_kernels.fixed_point.reference import (
    DIGIT,
    DIGIT_ZERO,
    PER_UNIT,
    UNIT,
    digit_count,
)
from mambaic_kernels.fixed_point.rows import NONE, Rows, rows_of, spread
from mambaic_kernels.simd import exact_jit, f32

_PER_UNIT, _UNIT, _DIGIT = f32(PER_UNIT), f32(UNIT), f32(DIGIT)
_LEAKY, _SILU, _SOFTPLUS = LEAKY, SILU, SOFTPLUS
_NOTHING = NONE[0]
LONG_ROW, MANY = 256, 1 << 16  # channels of a row, and sums, from which rows are long enough


# ``x`` and ``times`` as ``rows_of`` gives them, the latter with 0 channels if it is none


@exact_jit(nogil=True)
def _levels(x, times, out, per_step, most, first, last):  # type: ignore[no-untyped-def]
    memory, step, _, channels = x
    factors, factor_step, _, factor_channels = times
    for row in range(first, last):
        own, to = memory[row * step : row * step + channels], out[row]
        if factor_channels:
            by = factors[row * factor_step : row * factor_step + channels]
            for c in range(channels):
                to[c] = min(max(np.rint(own[c] * by[c] * per_step), -most), most)
        else:
            for c in range(channels):
                to[c] = min(max(np.rint(own[c] * per_step), -most), most)


@exact_jit(inline="always")
def _split(own, high, low, per_step, most):  # type: ignore[no-untyped-def]
    if len(low):
        for i in range(len(own)):
            level = np.int32(min(max(np.rint(own[i] * per_step), -most), most))
            high[i] = np.uint8((level >> 4) + DIGIT_ZERO)
            low[i] = np.uint8((level & 15) + DIGIT_ZERO)
    else:
        for i in range(len(own)):
            level = np.int32(min(max(np.rint(own[i] * per_step), -most), most))
            high[i] = np.uint8(level + DIGIT_ZERO)


@exact_jit(nogil=True)
def _digits(x, times, high, low, per_step, most, first, last):  # type: ignore[no-untyped-def]
    memory, step, _, channels = x
    factors, factor_step, _, factor_channels = times
    if step == channels and not factor_channels:  # at once: rows of few channels take long
        start, end = first * channels, last * channels
        _split(memory[start:end], high[start:end], low[start:end], per_step, most)
        return
    product = np.empty(channels, np.float32)
    for row in range(first, last):
        own = memory[row * step : row * step + channels]
        if factor_channels:
            by = factors[row * factor_step : row * factor_step + channels]
            for c in range(channels):
                product[c] = own[c] * by[c]
            own = product
        start, end = row * channels, (row + 1) * channels
        _split(own, high[start:end], low[start:end], per_step, most)


@exact_jit(nogil=True)
def _activated(own, place, kind, low, per_unit, table):  # type: ignore[no-untyped-def]
    channels, end = len(own), f32(len(table) - 1)
    for c in range(channels):
        at = abs(own[c]) if kind == _SOFTPLUS else own[c] - low
        place[c] = np.int32(min(max(f32(0), np.rint(at * per_unit)), end))
    # look-ups in a loop of their own: LLVM makes no vectors of one that has them
    if kind == _SOFTPLUS:
        for c in range(channels):
            own[c] = max(own[c], f32(0)) + table[np.uint32(place[c])]
    elif kind == _SILU:
        for c in range(channels):
            own[c] = np.rint(table[np.uint32(place[c])] * own[c] * _PER_UNIT) * _UNIT
    else:
        for c in range(channels):
            own[c] = table[np.uint32(place[c])]


@exact_jit(nogil=True)
def _finish(sums, low_sums, out, digits, zero, multiplier, bias, rounded, affine, act, plus, first, last):  # type: ignore[no-untyped-def] # fmt: skip # noqa: E501
    """In place of ``sums``, or to ``out``; what has no elements is not there."""
    factors, shifts, rows_of_one = affine
    kind, low, per_unit, table = act
    others, step, _, with_others = plus
    channels = len(multiplier)
    place = np.empty(channels, np.int32)
    for row in range(first, last):
        own = sums[row]
        if digits == 1:
            for c in range(channels):
                own[c] -= zero[c]
        elif digits == 2:
            beside = low_sums[row]
            for c in range(channels):
                own[c] = (own[c] - zero[c]) * _DIGIT + (beside[c] - zero[c])
        if rounded:
            for c in range(channels):
                own[c] = np.rint(own[c] * multiplier[c]) * _UNIT + bias[c]
        else:
            for c in range(channels):
                own[c] = own[c] * multiplier[c] + bias[c]
        if len(factors):
            factor, shift = factors[row // rows_of_one], shifts[row // rows_of_one]
            for c in range(channels):
                own[c] = np.rint(own[c] * factor[c] * _PER_UNIT) * _UNIT + shift[c]
        if kind == _LEAKY and rounded:
            for c in range(channels):
                own[c] = max(own[c], np.rint(own[c] * low * _PER_UNIT) * _UNIT)
        elif kind == _LEAKY:
            for c in range(channels):
                own[c] = max(own[c], own[c] * low)
        elif kind:
            _activated(own, place, kind, low, per_unit, table)
        if with_others:
            other = others[row * step : row * step + channels]
            for c in range(channels):
                own[c] += other[c]
        if len(out):
            out[row] = own


def levels(
    x: Tensor, per_step: float, most: float, channel: int, times: Tensor | None = None
) -> Tensor:
    """Integers of x * times: ``fixed_point.reference.to_levels``, dense with ``channel`` last."""
    out = empty(x, channel, torch.float32)
    source, target = rows_of(x, channel), _array(out, channel)
    by = NONE if times is None else rows_of(times, channel)
    constants = f32(per_step), f32(most)
    spread(lambda a, b: _levels(source, by, target, *constants, a, b), *source[2:])
    return out


def digits(
    x: Tensor, per_step: float, most: float, channel: int, times: Tensor | None = None
) -> Tensor:
    """Digits of x * times: ``fixed_point.reference.to_digits``, dense with ``channel`` last."""
    out = empty(x, channel, torch.uint8, count=digit_count(most) * len(x))
    source, all_digits = rows_of(x, channel), _array(out, channel).reshape(-1)
    high, low = np.split(all_digits, [x.numel()])
    by = NONE if times is None else rows_of(times, channel)
    constants = f32(per_step), f32(most)
    spread(lambda a, b: _digits(source, by, high, low, *constants, a, b), *source[2:])
    return out


def finish(
    sums: Tensor,
    multiplier: Tensor,
    bias: Tensor,
    channel: int,
    *,
    digits: int = 0,
    zero: Tensor | None = None,
    rounded: bool = True,
    affine: tuple[Tensor, Tensor] | None = None,
    act: Activation | None = None,
    plus: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """What follows sums of integers along ``channel``, which may be overwritten: see
    ``fixed_product.product``. Or of so many ``digits`` each (digits B, ...), those of digits that
    are 0 being ``zero`` (C,). Not ``rounded``: of networks that need not be in fixed point; without
    ``affine``. Written to ``out``, dense as the sums, if there is one."""
    layout = torch.channels_last if channel == 1 else torch.contiguous_format
    found = sums = sums.contiguous(memory_format=layout)
    rows = _array(sums, channel)
    low = rows[:0]
    if digits == 2:
        found = sums[: len(sums) // 2]
        rows, low = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    if len(bias) < len(multiplier):
        bias = bias.expand_as(multiplier).contiguous()
    per_channel = [of.numpy() for of in (multiplier if zero is None else zero, multiplier, bias)]
    by = rows[:0], rows[:0], 1
    if affine is not None:
        factor, shift = (of.contiguous().numpy() for of in affine)
        by = factor, shift, len(rows) // max(1, len(factor)) or 1
    does = 0, f32(0), f32(0), _NOTHING
    if act is not None:
        table = _NOTHING if act.values is None else act.values.numpy()
        does = act.kind, f32(act.low), f32(act.per_unit), table
    more = NONE if plus is None else rows_of(plus, channel)
    target = rows[:0] if out is None else _array(out, channel)
    side = _side_by_side(*rows.shape, of_one=by[2] if affine else len(rows), plus=more)
    if side > 1:
        width = side * rows.shape[1]
        rows, low, target = (of.reshape(-1, width) for of in (rows, low, target))
        per_channel = [np.tile(of, side) for of in per_channel]
        by = np.tile(by[0], side), np.tile(by[1], side), by[2] // side
        more = more[0], side * more[1], more[2] // side, side * more[3]
    operands = rows, low, target, digits, *per_channel, rounded, by, does, more
    spread(lambda a, b: _finish(*operands, a, b), *rows.shape)
    return found if out is None else out


def _side_by_side(count: int, channels: int, *, of_one: int, plus: Rows) -> int:
    """How many rows of few channels are treated as one, as a loop over few takes long."""
    side, (_, step, _, with_plus) = 1, plus
    if count * channels < MANY:
        return side
    while 2 * side * channels <= LONG_ROW and of_one % (2 * side) == 0 == count % (2 * side):
        side *= 2
    return side if not with_plus or step == channels else 1


def empty(
    like: Tensor,
    channel: int,
    dtype: torch.dtype,
    *,
    count: int | None = None,
    channels: int | None = None,
) -> Tensor:
    """Of the shape of another one, but for the ``count`` of the first dimension and the number of
    channels; dense, with channels last in memory."""
    shape = list(like.shape)
    shape[0] = shape[0] if count is None else count
    shape[channel] = shape[channel] if channels is None else channels
    layout = torch.channels_last if channel == 1 else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, memory_format=layout)


def _array(dense: Tensor, channel: int) -> np.ndarray:
    """Rows (n, C) of what is dense with ``channel`` last."""
    last = dense.permute(0, 2, 3, 1) if channel == 1 else dense
    return np.asarray(last.reshape(-1, last.shape[-1]).numpy())
