"""CUDA backend of the fixed-point operations: one launch each, where torch takes three to fourteen.

Equal to the reference bit by bit, as ``mambaic_kernels.fixed_scan.triton`` is: nothing is fused,
divisions and roots are IEEE's. Tested on CPU with TRITON_INTERPRET=1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from mambaic_kernels.fixed_point.reference import PER_UNIT, UNIT
from mambaic_kernels.fixed_scan.triton import EXACT, _rint
from mambaic_kernels.scan.operators import watched

BLOCK = 1024
PER_UNIT_, UNIT_ = tl.constexpr(PER_UNIT), tl.constexpr(UNIT)
GRID, LEVELS, LOOK_UP, SOFTPLUS, OCTAVES = range(5)  # kinds of elementwise operations
_LEVELS, _LOOK_UP, _SOFTPLUS = tl.constexpr(LEVELS), tl.constexpr(LOOK_UP), tl.constexpr(SOFTPLUS)
_GRID = tl.constexpr(GRID)


@triton.jit
def _levels(x, per_step, most):
    return tl.minimum(tl.maximum(_rint(x * per_step), -most), most)


@triton.jit
def look_up_at(x, values, low, per_unit, end, ok):
    """``values`` at x as ``reference.look_up``, ``end`` the last place."""
    place = tl.minimum(tl.maximum(_rint((x - low) * per_unit), 0.0), end)
    return tl.load(values + place.to(tl.int32), mask=ok, other=0.0)


@triton.jit
def _map_kernel(
    x, values, out, count, end, a, b, last, shift, first, KIND: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """An elementwise operation; numbers as its arguments in ``reference``, ``end`` and ``last`` the
    last place of ``values``."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = at < count
    own = tl.load(x + at, mask=ok, other=0.0)
    if KIND == _GRID:
        found = _rint(own * PER_UNIT_) * UNIT_
    elif KIND == _LEVELS:
        found = _levels(own, a, b)
    elif KIND == _LOOK_UP:
        found = look_up_at(own, values, a, b, end, ok)
    elif KIND == _SOFTPLUS:
        place = tl.minimum(_rint(tl.abs(own) * b), end)
        found = tl.load(values + place.to(tl.int32), mask=ok, other=0.0) + tl.maximum(own, 0.0)
    else:
        cell = (own.to(tl.int32, bitcast=True) >> shift) - first
        cell = tl.minimum(tl.maximum(cell, 0), last)
        found = tl.load(values + cell, mask=ok, other=0.0)
    tl.store(out + at, found, mask=ok)


@triton.jit
def _feature_kernel(
    y, values, out, count, positions, channels, width, yb, yy, yx, yc, shift, first, last,
    per_step, most, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = at < count
    place, c = at // channels, at % channels
    b, p = place // positions, place % positions
    own = tl.load(y + b * yb + p // width * yy + p % width * yx + c * yc, mask=ok, other=0.0)
    cell = ((tl.abs(own) + 1.0).to(tl.int32, bitcast=True) >> shift) - first
    cell = tl.minimum(tl.maximum(cell, 0), last)
    level = _levels(tl.load(values + cell, mask=ok, other=0.0), per_step, most)
    to = out + place * 2 * channels + c
    tl.store(to, tl.where(own < 0, -level, level), mask=ok)
    tl.store(to + channels, level, mask=ok)


@triton.jit
def _norm_kernel(
    x, weight, bias, out, width, per_fine, most_fine, fine, per_coarse, most_coarse, coarse, eps,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One row."""
    c = tl.arange(0, BLOCK)
    ok = c < width
    at = tl.program_id(0).to(tl.int64) * width + c
    own = tl.load(x + at, mask=ok, other=0.0)
    mean = tl.sum(_levels(own, per_fine, most_fine), axis=0) * fine
    centred = tl.where(ok, own - mean, 0.0)
    levels = _levels(centred, per_coarse, most_coarse).to(tl.int32)
    squares = tl.sum(levels * levels, axis=0).to(tl.float32)
    deviation = tl.sqrt_rn(tl.maximum(squares * coarse, eps))
    scaled = tl.div_rn(centred, tl.zeros_like(centred) + deviation)
    scaled = scaled * tl.load(weight + c, mask=ok, other=0.0)
    found = _rint(scaled * PER_UNIT_) * UNIT_ + tl.load(bias + c, mask=ok, other=0.0)
    tl.store(out + at, found, mask=ok)


def _dense(x: Tensor) -> Tensor:
    """``x``, or a copy if its memory has gaps."""
    if x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)):
        return x
    return x.contiguous()


def _map(x: Tensor, values: Tensor, a: float, b: float, kind: int) -> Tensor:
    x = _dense(x)
    out, count = torch.empty_like(x), x.numel()
    if count:
        last = values.numel() - 1
        _map_kernel[(triton.cdiv(count, BLOCK),)](
            x, values, out, count, float(last), float(a), float(b), last, int(a), int(b),
            KIND=kind, BLOCK=BLOCK, **EXACT,
        )  # fmt: skip
    return out


def _feature_levels(y: Tensor, values: Tensor, octaves: list[int], levels: list[float]) -> Tensor:
    batch, channels, height, width = y.shape
    out = y.new_empty(batch, height, width, 2 * channels)
    b, c, row, column = y.stride()
    if count := y.numel():
        _feature_kernel[(triton.cdiv(count, BLOCK),)](
            y, values, out, count, height * width, channels, width, b, row, column, c,
            *octaves, values.numel() - 1, *levels, BLOCK=BLOCK, **EXACT,
        )  # fmt: skip
    return out.permute(0, 3, 1, 2)


def _norm(x: Tensor, weight: Tensor, bias: Tensor, constants: list[float]) -> Tensor:
    x = x.contiguous()
    out, width = torch.empty_like(x), x.shape[-1]
    if x.numel():
        _norm_kernel[(x.numel() // width,)](
            x, weight, bias, out, width, *constants,
            BLOCK=triton.next_power_of_2(width), **EXACT,
        )  # fmt: skip
    return out


def _operator(
    name: str,
    function: Callable[..., Tensor],
    fake: Callable[..., Tensor] = lambda x, *others: torch.empty_like(x),
) -> Callable[..., Tensor]:
    """``function``, as an operator where fake tensors or a compiler must see it."""
    operator: Any = torch.library.custom_op(f"mambaic::{name}", function, mutates_args=())
    operator.register_fake(fake)
    return lambda x, *others: (operator if watched(x) else function)(x, *others)


_map_op = _operator("fixed_map", _map)
_norm_op = _operator("fixed_norm", _norm)
_feature_op = _operator(
    "fixed_features",
    _feature_levels,
    lambda y, *others: torch.empty_like(torch.cat([y, y], 1), memory_format=torch.channels_last),
)


def to_grid(x: Tensor) -> Tensor:
    """As ``reference.to_grid``."""
    return _map_op(x, x, 0.0, 0.0, GRID)


def to_levels(x: Tensor, per_step: float, most: float) -> Tensor:
    """As ``reference.to_levels``."""
    return _map_op(x, x, per_step, most, LEVELS)


def look_up(x: Tensor, values: Tensor, low: float, per_unit: float) -> Tensor:
    """As ``reference.look_up``."""
    return _map_op(x, values, low, per_unit, LOOK_UP)


def softplus(x: Tensor, values: Tensor, per_unit: float) -> Tensor:
    """As ``reference.softplus``."""
    return _map_op(x, values, 0.0, per_unit, SOFTPLUS)


def look_up_octaves(v: Tensor, values: Tensor, shift: int, first: int) -> Tensor:
    """As ``reference.look_up_octaves``."""
    return _map_op(v, values, float(shift), float(first), OCTAVES)


def feature_levels(
    y: Tensor, values: Tensor, shift: int, first: int, per_step: float, most: float
) -> Tensor:
    """As ``reference.feature_levels``."""
    return _feature_op(y, values, [shift, first], [per_step, most])


def norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    fine: tuple[float, float, float],
    coarse: tuple[float, float, float],
    eps: float,
) -> Tensor:
    """As ``reference.norm``."""
    return _norm_op(x, weight, bias, [*fine, *coarse, eps])
