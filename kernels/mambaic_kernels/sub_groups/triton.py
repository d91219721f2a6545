"""CUDA backend: one launch each. Tested on CPU with TRITON_INTERPRET=1."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from mambaic_kernels.fixed_point.activation import Activation
from mambaic_kernels.fixed_point.triton import PER_UNIT_, UNIT_, look_up_at
from mambaic_kernels.fixed_scan.triton import EXACT, _rint
from mambaic_kernels.scan.operators import watched
from mambaic_kernels.sub_groups.reference import (
    DEVIATIONS_MAX,
    LEAST_VARIANCE,
    MAGNITUDES,
    Tables,
)

BLOCK = 512
_MOST, _LEAST = tl.constexpr(DEVIATIONS_MAX), tl.constexpr(LEAST_VARIANCE)


@triton.jit
def _own(x, b, n, c, xb, xn, xc, ok):
    return tl.load(x + b * xb + n * xn + c * xc, mask=ok, other=0.0)


@triton.jit
def _normalised_kernel(
    coded, mean, log_scale, exp, log, sigmoid, out, features,
    count, positions, channels, cb, cn, cc, mb, mn, mc, lb, ln, lc,
    exp_low, exp_per_unit, exp_end, low, per_unit, end, least, most, shift, first, last,
    BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = at < count
    row, c = at // channels, at % channels
    b, n = row // positions, row % positions
    own = _own(log_scale, b, n, c, lb, ln, lc, ok)
    bounded = tl.minimum(tl.maximum(own, least), most)
    residual = _own(coded, b, n, c, cb, cn, cc, ok) - _own(mean, b, n, c, mb, mn, mc, ok)
    scale = tl.where(ok, look_up_at(bounded, exp, exp_low, exp_per_unit, exp_end, ok), 1.0)
    deviation = _rint(tl.div_rn(residual, scale) * PER_UNIT_) * UNIT_
    deviation = tl.minimum(tl.maximum(deviation, -_MOST), _MOST)
    variance = look_up_at(2.0 * bounded, exp, exp_low, exp_per_unit, exp_end, ok) + _LEAST
    ratio = _rint(tl.div_rn(residual * residual, variance) * PER_UNIT_) * UNIT_ + 1.0
    cell = (ratio.to(tl.int32, bitcast=True) >> shift) - first
    cell = tl.minimum(tl.maximum(cell, 0), last)
    tl.store(out + at, deviation, mask=ok)
    to = features + row * 3 * channels + c
    tl.store(to, tl.load(log + cell, mask=ok, other=0.0), mask=ok)
    tl.store(to + channels, look_up_at(2.0 * own, sigmoid, low, per_unit, end, ok), mask=ok)
    tl.store(to + 2 * channels, tl.abs(deviation), mask=ok)


@triton.jit
def _moved_kernel(
    mean, log_scale, by, exp, out,
    count, positions, channels, mb, mn, mc, lb, ln, lc, yb, yn, yc,
    exp_low, exp_per_unit, exp_end, least, most, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = at < count
    row, c = at // channels, at % channels
    b, n = row // positions, row % positions
    bounded = tl.minimum(tl.maximum(_own(log_scale, b, n, c, lb, ln, lc, ok), least), most)
    scale = look_up_at(bounded, exp, exp_low, exp_per_unit, exp_end, ok)
    moved = _rint(scale * _own(by, b, n, c, yb, yn, yc, ok) * PER_UNIT_) * UNIT_
    tl.store(out + at, _own(mean, b, n, c, mb, mn, mc, ok) + moved, mask=ok)


def _normalised(
    coded: Tensor, mean: Tensor, log_scale: Tensor, exp: Tensor, log: Tensor, sigmoid: Tensor,
    numbers: list[float], octaves: list[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    batch, positions, channels = coded.shape
    out = coded.new_empty(coded.shape)
    features = coded.new_empty(batch, positions, MAGNITUDES * channels)
    if count := coded.numel():
        exp_low, exp_per_unit, low, per_unit, least, most = numbers
        _normalised_kernel[(triton.cdiv(count, BLOCK),)](
            coded, mean, log_scale, exp, log, sigmoid, out, features,
            count, positions, channels, *coded.stride(), *mean.stride(), *log_scale.stride(),
            exp_low, exp_per_unit, float(exp.numel() - 1), low, per_unit,
            float(sigmoid.numel() - 1), least, most, *octaves, log.numel() - 1,
            BLOCK=BLOCK, **EXACT,
        )  # fmt: skip
    return out, features


def _moved(
    mean: Tensor, log_scale: Tensor, by: Tensor, exp: Tensor, numbers: list[float]
) -> Tensor:
    _, positions, channels = mean.shape
    out = mean.new_empty(mean.shape)
    if count := mean.numel():
        low, per_unit, *bounds = numbers
        _moved_kernel[(triton.cdiv(count, BLOCK),)](
            mean, log_scale, by, exp, out,
            count, positions, channels, *mean.stride(), *log_scale.stride(), *by.stride(),
            low, per_unit, float(exp.numel() - 1), *bounds, BLOCK=BLOCK, **EXACT,
        )  # fmt: skip
    return out


_normalised_operator: Any = torch.library.custom_op(
    "mambaic::normalised", _normalised, mutates_args=()
)
_moved_operator: Any = torch.library.custom_op("mambaic::moved", _moved, mutates_args=())


@_normalised_operator.register_fake
def _(coded, mean, log_scale, exp, log, sigmoid, numbers, octaves):  # type: ignore[no-untyped-def]
    wide = coded.new_empty(*coded.shape[:-1], MAGNITUDES * coded.shape[-1])
    return coded.new_empty(coded.shape), wide


@_moved_operator.register_fake
def _(mean, log_scale, by, exp, numbers):  # type: ignore[no-untyped-def]
    return mean.new_empty(mean.shape)


def _table(of: Activation) -> tuple[float, float]:
    return of.low, of.per_unit


def normalised(
    coded: Tensor, mean: Tensor, log_scale: Tensor, tables: Tables
) -> tuple[Tensor, Tensor]:
    """See ``mambaic_kernels.sub_groups.normalised``."""
    numbers = [*_table(tables.exp), *_table(tables.sigmoid), *tables.bounds]
    operands = coded, mean, log_scale, tables.exp.table, tables.log, tables.sigmoid.table
    found: tuple[Tensor, Tensor] = (_normalised_operator if watched(coded) else _normalised)(
        *operands, numbers, [tables.shift, tables.first]
    )
    return found


def moved(mean: Tensor, log_scale: Tensor, by: Tensor, tables: Tables) -> Tensor:
    """See ``mambaic_kernels.sub_groups.moved``."""
    numbers = [*_table(tables.exp), *tables.bounds]
    found: Tensor = (_moved_operator if watched(mean) else _moved)(
        mean, log_scale, by, tables.exp.table, numbers
    )
    return found
