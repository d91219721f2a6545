"""CUDA backend of products: one launch each, with all that comes before and after.

The sums are of integers, exact in any order, so only what is around them must not be fused. Tested
on CPU with TRITON_INTERPRET=1.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from mambaic_kernels.fixed_point.activation import LEAKY, SILU, SOFTPLUS, Activation
from mambaic_kernels.fixed_point.triton import PER_UNIT_, UNIT_, _levels, look_up_at
from mambaic_kernels.fixed_product.places import (
    Places,
    by_position,
    empty_output,
    grids_of,
)
from mambaic_kernels.fixed_scan.triton import EXACT, _rint
from mambaic_kernels.grids import Grid
from mambaic_kernels.scan.operators import watched

_LEAKY, _SILU, _SOFTPLUS = tl.constexpr(LEAKY), tl.constexpr(SILU), tl.constexpr(SOFTPLUS)
LARGE = 1 << 20  # outputs from which on blocks are larger
DEPTHWISE_BLOCK = 32, 32
INPUTS, FEW_INPUTS = 32, 16  # that are summed at once


@triton.jit
def _grid(x):
    return _rint(x * PER_UNIT_) * UNIT_


@triton.jit
def _activate(x, values, low, per_unit, end, ok, ACT: tl.constexpr):
    """As ``activation.activate``; ``end`` is the last place of ``values``."""
    if ACT == 0:
        found = x
    elif ACT == _LEAKY:
        found = tl.maximum(x, _grid(x * low))
    elif ACT == _SOFTPLUS:
        place = tl.minimum(_rint(tl.abs(x) * per_unit), end)
        found = tl.load(values + place.to(tl.int32), mask=ok, other=0.0) + tl.maximum(x, 0.0)
    else:
        found = look_up_at(x, values, low, per_unit, end, ok)
        if ACT == _SILU:
            found = _grid(found * x)
    return found


@triton.jit
def _centre(line, j, row0, column0, row1, column1, stride, GRIDS: tl.constexpr):
    """Row and column of the map, of an output in its ``line`` and column."""
    if GRIDS == 1:
        return line * stride + row0, j * stride + column0
    odd = line % 2 == 1
    row = (line // 2) * stride + tl.where(odd, row1, row0)
    return row, j * stride + tl.where(odd, column1, column0)


@triton.jit
def _finish(
    found, multiplier, bias, factor, shift, values, plus, out, own, b, line, j, c, ok, n_out,
    of_factor, of_bias, pb, py, px, pc, low, per_unit, end,
    AFFINE: tl.constexpr, ACT: tl.constexpr, PLUS: tl.constexpr,
):  # fmt: skip
    """Stores what follows the sums (positions, channels) at ``own`` of ``out``."""
    of_c = c < n_out
    scale = tl.load(multiplier + c, mask=of_c, other=0.0)
    added = tl.load(bias + c * of_bias, mask=of_c, other=0.0)
    found = _rint(found * scale[None, :]) * UNIT_ + added[None, :]
    if AFFINE:
        at = (b * of_factor)[:, None] + c[None, :]
        found = _grid(found * tl.load(factor + at, mask=ok, other=0.0))
        found += tl.load(shift + at, mask=ok, other=0.0)
    found = _activate(found, values, low, per_unit, end, ok, ACT)
    if PLUS:
        at = (b * pb + line * py + j * px)[:, None] + (c * pc)[None, :]
        found += tl.load(plus + at, mask=ok, other=0.0)
    tl.store(out + own, found, mask=ok)


@triton.jit
def _product_kernel(
    x, times, weight, multiplier, bias, factor, shift, values, plus, out,
    count, positions, across, height, width, n_in, n_out,
    xb, xy, xx, xc, xg, tb, ty, tx, tc, wo, wc, wt, wg, of_factor, of_bias, pb, py, px, pc,
    row0, column0, row1, column1, stride, before,
    per_step, most, low, per_unit, end,
    GRIDS: tl.constexpr, SIDE: tl.constexpr, DILATION: tl.constexpr,
    TIMES: tl.constexpr, AFFINE: tl.constexpr, ACT: tl.constexpr, PLUS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """A block of positions and channels, of one direction: program (block, block, direction)."""
    place = tl.program_id(0) * BM + tl.arange(0, BM)
    o = tl.program_id(1) * BN + tl.arange(0, BN)
    g = tl.program_id(2).to(tl.int64)
    here = place < count
    b = (place // positions).to(tl.int64)
    line, j = (place % positions) // across, place % across
    row, column = _centre(line, j, row0, column0, row1, column1, stride, GRIDS)
    found = tl.zeros([BM, BN], tl.float32)
    for tap in range(SIDE * SIDE):
        y = row + (tap // SIDE) * DILATION - before
        z = column + (tap % SIDE) * DILATION - before
        ok = here & (y >= 0) & (y < height) & (z >= 0) & (z < width)
        of_x = b * xb + y * xy + z * xx + g * xg
        of_times = b * tb + y * ty + z * tx
        for first in range(0, n_in, BK):
            c = first + tl.arange(0, BK)
            inside = ok[:, None] & (c < n_in)[None, :]
            own = tl.load(x + of_x[:, None] + (c * xc)[None, :], mask=inside, other=0.0)
            if TIMES:
                at = of_times[:, None] + (c * tc)[None, :]
                own = own * tl.load(times + at, mask=inside, other=0.0)
            own = _levels(own, per_step, most)
            at = (c * wc)[:, None] + (o * wo)[None, :] + tap * wt + g * wg
            there = (c < n_in)[:, None] & (o < n_out)[None, :]
            of_weight = tl.load(weight + at, mask=there, other=0.0)
            found = tl.dot(own, of_weight, found, input_precision="ieee")
    ok = here[:, None] & (o < n_out)[None, :]
    directions = tl.num_programs(2)
    own = (place.to(tl.int64) * directions * n_out)[:, None] + g * n_out + o[None, :]
    _finish(
        found, multiplier + g * n_out, bias + g * n_out * of_bias, factor, shift, values, plus, out,
        own, b, line, j, o, ok, n_out, of_factor, of_bias, pb, py, px, pc, low, per_unit, end,
        AFFINE, ACT, PLUS,
    )  # fmt: skip


@triton.jit
def _depthwise_kernel(
    x, weight, multiplier, bias, values, out,
    count, positions, across, height, width, n_out, xb, xy, xx, xc, wo, wt, of_bias, stride, before,
    per_step, most, low, per_unit, end,
    SIDE: tl.constexpr, DILATION: tl.constexpr, ACT: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """A block of positions and channels, every channel by itself."""
    place = tl.program_id(0) * BM + tl.arange(0, BM)
    c = tl.program_id(1) * BN + tl.arange(0, BN)
    here = place < count
    b = (place // positions).to(tl.int64)
    line, j = (place % positions) // across, place % across
    found = tl.zeros([BM, BN], tl.float32)
    for tap in range(SIDE * SIDE):
        y = line * stride + (tap // SIDE) * DILATION - before
        z = j * stride + (tap % SIDE) * DILATION - before
        ok = here & (y >= 0) & (y < height) & (z >= 0) & (z < width)
        at = (b * xb + y * xy + z * xx)[:, None] + (c * xc)[None, :]
        own = tl.load(x + at, mask=ok[:, None] & (c < n_out)[None, :], other=0.0)
        of_weight = tl.load(weight + c * wo + tap * wt, mask=c < n_out, other=0.0)
        found += _levels(own, per_step, most) * of_weight[None, :]
    ok = here[:, None] & (c < n_out)[None, :]
    own = (place.to(tl.int64) * n_out)[:, None] + c[None, :]
    _finish(
        found, multiplier, bias, bias, bias, values, bias, out, own, b, line, j, c, ok, n_out,
        0, of_bias, 0, 0, 0, 0, low, per_unit, end, False, ACT, False,
    )  # fmt: skip


def _output_strides(found: Tensor, places: Places, across: int) -> tuple[int, int, int, int]:
    """Of something in the shape of the output: to the next picture, line, column, channel."""
    if not places.of_rows:
        b, c, y, x = found.stride()
        return b, y, x, c
    if places.grids:
        b, p, c = found.stride()
        return b, p * across, p, c
    return by_position(found, -1).stride()  # type: ignore[return-value]


def _taps(weight: Tensor) -> tuple[int, int, int]:
    """Strides of a weight (out, in, ...): to the next output, input, and tap."""
    if weight.ndim == 2 or weight.shape[2] == 1:
        return weight.stride(0), weight.stride(1), 0
    if weight.stride(2) != weight.shape[3] * weight.stride(3):
        raise ValueError("the taps of a weight must lie at equal distances in memory")
    return weight.stride(0), weight.stride(1), weight.stride(3)


def _of_act(act: list[float], values: Tensor) -> tuple[int, list[float]]:
    """Kind of an activation, and its numbers with the last place of its table."""
    return int(act[0]), [*act[1:], float(values.numel() - 1)]


def _launch(
    x: Tensor, weight: Tensor, multiplier: Tensor, bias: Tensor, times: Tensor | None,
    factor: Tensor | None, shift: Tensor | None, values: Tensor | None, plus: Tensor | None,
    levels: list[float], act: list[float], shape: list[int], grids: list[int],
) -> Tensor:  # fmt: skip
    places = _places(shape, grids)
    view, n_out = by_position(x, places.channel), weight.shape[0]
    out = empty_output(x, n_out, places)
    if not out.numel():
        return out
    table = bias if values is None else values
    kind, numbers = _of_act(act, table)
    of_grids = grids_of(places)
    first, last = of_grids[0], of_grids[-1]
    batch, height, width, n_in = view.shape
    across = width // first.stride if places.grids or places.channel == -1 else out.shape[-1]
    count = out.numel() // n_out
    of_x, of_weight, of_bias = view.stride(), _taps(weight), int(bias.numel() > 1)
    sizes = [count, count // batch, across, height, width]
    constants: dict[str, Any] = {
        "SIDE": places.side, "DILATION": places.dilation, "ACT": kind, **EXACT
    }  # fmt: skip
    if places.depthwise:
        rows, columns = DEPTHWISE_BLOCK
        _depthwise_kernel[(triton.cdiv(count, rows), triton.cdiv(n_out, columns))](
            x, weight, multiplier, bias, table, out, *sizes, n_out, *of_x, of_weight[0],
            of_weight[2], of_bias, places.stride, places.before, *levels, *numbers,
            BM=rows, BN=columns, **constants,
        )  # fmt: skip
        return out
    of_times = (0, 0, 0, 0) if times is None else by_position(times, places.channel).stride()
    of_plus = (0, 0, 0, 0) if plus is None else _output_strides(plus, places, across)
    size = 64 if out.numel() >= LARGE else 32
    blocks = triton.cdiv(count, size), triton.cdiv(n_out, size), 1
    _product_kernel[blocks](
        x, x if times is None else times, weight, multiplier, bias,
        bias if factor is None else factor, bias if shift is None else shift, table,
        bias if plus is None else plus, out,
        *sizes, n_in, n_out, *of_x, 0, *of_times, *of_weight, 0,
        0 if factor is None or len(factor) == 1 else n_out, of_bias, *of_plus,
        first.row, first.column, last.row, last.column, first.stride, places.before,
        *levels, *numbers,
        GRIDS=len(of_grids), TIMES=times is not None, AFFINE=factor is not None,
        PLUS=plus is not None, BM=size, BN=size, BK=INPUTS, **constants,
    )  # fmt: skip
    return out


def _launch_directed(
    x: Tensor, weight: Tensor, multiplier: Tensor, bias: Tensor, values: Tensor,
    levels: list[float], act: list[float],
) -> Tensor:  # fmt: skip
    batch, height, width, directions, n_in = x.shape
    n_out = weight.shape[2]
    multiplier, bias = multiplier.contiguous(), bias.contiguous()
    out = x.new_empty(batch, height, width, directions, n_out)
    if not out.numel():
        return out
    kind, numbers = _of_act(act, values)
    xb, xy, xx, xg, xc = x.stride()
    wg, wc, wo = weight.stride()
    count = batch * height * width
    size = 64 if out.numel() >= LARGE else 32
    _product_kernel[(triton.cdiv(count, size), triton.cdiv(n_out, size), directions)](
        x, x, weight, multiplier, bias, bias, bias, values, bias, out,
        count, height * width, width, height, width, n_in, n_out,
        xb, xy, xx, xc, xg, 0, 0, 0, 0, wo, wc, 0, wg, 0, 1, 0, 0, 0, 0,
        0, 0, 0, 0, 1, 0, *levels, *numbers,
        GRIDS=1, SIDE=1, DILATION=1, TIMES=False, AFFINE=False, ACT=kind, PLUS=False,
        BM=size, BN=size, BK=FEW_INPUTS, **EXACT,
    )  # fmt: skip
    return out


# places, as operators take them: numbers


def _numbers(places: Places) -> tuple[list[int], list[int]]:
    return list(map(int, places[:-1])), [number for grid in places.grids for number in grid]


def _places(shape: list[int], grids: list[int]) -> Places:
    channel, side, before, dilation, stride, depthwise = shape
    of_three = [Grid(*grids[first : first + 3]) for first in range(0, len(grids), 3)]
    alone = bool(depthwise)
    return Places(channel, side, before, dilation, stride, alone, tuple(of_three))


_operator: Any = torch.library.custom_op("mambaic::fixed_product", _launch, mutates_args=())
_directed_operator: Any = torch.library.custom_op(
    "mambaic::fixed_directed", _launch_directed, mutates_args=()
)


@_operator.register_fake
def _(x, weight, multiplier, bias, times, factor, shift, values, plus, levels, act, shape, grids):  # type: ignore[no-untyped-def]
    return empty_output(x, weight.shape[0], _places(shape, grids))


@_directed_operator.register_fake
def _(x, weight, multiplier, bias, values, levels, act):  # type: ignore[no-untyped-def]
    return x.new_empty(*x.shape[:-1], weight.shape[2])


def product(
    x: Tensor,
    weight: Tensor,
    multiplier: Tensor,
    bias: Tensor,
    levels: tuple[float, float],
    places: Places,
    times: Tensor | None = None,
    affine: tuple[Tensor, Tensor] | None = None,
    act: Activation | None = None,
    plus: Tensor | None = None,
) -> Tensor:
    """See ``mambaic_kernels.fixed_product.product``."""
    factor, shift = affine or (None, None)
    numbers = [0.0, 0.0, 0.0] if act is None else [float(act.kind), act.low, act.per_unit]
    found: Tensor = (_operator if watched(x) else _launch)(
        x, weight, multiplier, bias, times, factor, shift, act.values if act else None, plus,
        list(levels), numbers, *_numbers(places),
    )  # fmt: skip
    return found


def directed(
    x: Tensor,
    weight: Tensor,
    multiplier: Tensor,
    bias: Tensor,
    levels: tuple[float, float],
    act: Activation,
) -> Tensor:
    """See ``mambaic_kernels.fixed_product.directed``."""
    numbers = [float(act.kind), act.low, act.per_unit]
    found: Tensor = (_directed_operator if watched(x) else _launch_directed)(
        x, weight, multiplier, bias, act.table, list(levels), numbers
    )
    return found
