"""The numba passes of ``mambaic_kernels.smoothing.reference``, rows in blocks over threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor
from torch.nn import functional as F

from mambaic_kernels.simd import cut, f32, jit, run

ROWS = 64  # of a block
WIDE = 8  # pixels whose sums over all offsets stay in registers
VECTOR = ir.VectorType(ir.FloatType(), WIDE)


@jit(inline="always")
def _add(sums, x):  # type: ignore[no-untyped-def]
    for i in range(len(sums)):
        sums[i] += x[i]


@jit(nogil=True)
def _box_mean(padded, out, radius, first, last):  # type: ignore[no-untyped-def]
    """padded (P, H + 2 radius, W + 2 radius) -> rows first..last of out (P, H, W)."""
    planes, _, width = out.shape
    side = 2 * radius + 1
    share = f32(1.0 / side**2)
    columns = np.empty(padded.shape[2], f32)
    for p in range(planes):
        for y in range(first, last):
            columns[:] = f32(0)
            for k in range(side):
                _add(columns, padded[p, y + k])
            sums = out[p, y]
            sums[:] = f32(0)
            for k in range(side):
                # slices of what is added alone: LLVM makes no vectors of indices that might be
                # negative
                _add(sums, columns[k : k + width])
            for x in range(width):
                sums[x] *= share


def box_mean(padded: Tensor, radius: int) -> Tensor:
    """Of maps with ``radius`` pixels around them."""
    planes, height, width = padded.shape
    out = padded.new_empty(planes, height - 2 * radius, width - 2 * radius)
    operands = padded.numpy(), out.numpy(), radius
    run(lambda _, *rows: _box_mean(*operands, *rows), cut(out.shape[1], 1, ROWS))
    return out


@intrinsic
def _similar(typingctx, own, plane, offsets, count, narrow, out, out_plane):  # type: ignore[no-untyped-def]
    """``bilateral`` of WIDE pixels, written as vectors: a loop that LLVM vectorises keeps its sums
    in memory, and takes twice as long.

    Takes addresses and bytes: of the first pixel in plane 0, from a plane to the next, of
    ``count`` offsets in bytes, of the first pixel's 1 / (2 width)**2 and its result, and from a
    plane of these two to the next.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        def constant(value: float) -> ir.Constant:
            return ir.Constant(VECTOR, [value] * WIDE)

        def add(a: Any, b: Any) -> Any:
            return builder.fadd(a, b, flags=("fast",))

        def times(a: Any, b: Any) -> Any:
            return builder.fmul(a, b, flags=("fast",))

        def split(dividend: Any, divisor: Any) -> Any:
            return builder.fdiv(dividend, divisor, flags=("fast",))

        def place(base: Any, step: Any, steps: int) -> Any:
            address = builder.add(base, builder.mul(step, ir.Constant(step.type, steps)))
            return builder.inttoptr(address, VECTOR.as_pointer())

        own, plane, offsets, count, narrow, out, out_plane = arguments
        one = constant(1.0)
        widths, colours = range(2), range(3)
        owns = [builder.load(place(own, plane, p), align=4) for p in colours]
        narrows = [builder.load(place(narrow, out_plane, s), align=4) for s in widths]
        totals = [cgutils.alloca_once_value(builder, one) for _ in widths]
        sums = [
            [cgutils.alloca_once_value(builder, constant(0.0)) for _ in colours] for _ in widths
        ]
        table = builder.inttoptr(offsets, ir.IntType(64).as_pointer())
        with cgutils.for_range(builder, count) as loop:
            other = builder.add(own, builder.load(builder.gep(table, [loop.index])))
            others = (builder.load(place(other, plane, p), align=4) for p in colours)
            difference = [builder.fsub(x, y) for x, y in zip(others, owns, strict=True)]
            a, b, c = (times(d, d) for d in difference)
            distance = add(add(a, b), c)
            divisors = [add(one, times(n, distance)) for n in narrows]
            both = split(one, times(*divisors))  # one division for two
            for s in widths:
                weight = times(both, divisors[1 - s])
                weight = times(weight, weight)
                weight = times(weight, weight)
                builder.store(add(builder.load(totals[s]), weight), totals[s])
                for p in colours:
                    total = add(builder.load(sums[s][p]), times(weight, difference[p]))
                    builder.store(total, sums[s][p])
        for s in widths:
            for p in colours:
                mean = split(builder.load(sums[s][p]), builder.load(totals[s]))
                builder.store(mean, place(out, out_plane, 3 * s + p), align=4)
        return context.get_dummy_value()

    address = types.uintp
    return types.void(address, address, address, types.int64, address, address, address), codegen


@jit(nogil=True)
def _bilateral(padded, offsets, narrow, out, margin, first, last):  # type: ignore[no-untyped-def]
    """padded (3, H + 2 margin, W + 2 margin), narrow (2, H, W) -> rows first..last of
    out (2, 3, H, W), W a multiple of WIDE."""
    line, out_line = 4 * padded.shape[2], 4 * out.shape[3]
    plane, out_plane = padded.shape[1] * line, out.shape[2] * out_line
    begin = padded.ctypes.data + np.uintp(margin * (line + 4))
    for y in range(first, last):
        for x in range(0, out_line, 4 * WIDE):
            _similar(  # type: ignore[call-arg]
                begin + np.uintp(y * line + x),
                np.uintp(plane),
                offsets.ctypes.data,
                len(offsets),
                narrow.ctypes.data + np.uintp(y * out_line + x),
                out.ctypes.data + np.uintp(y * out_line + x),
                np.uintp(out_plane),
            )


def bilateral(
    padded: Tensor, margin: int, offsets: tuple[tuple[int, int], ...], widths: Tensor
) -> Tensor:
    """Of planes with ``margin`` pixels around them, as far as ``offsets`` reach."""
    rows, columns = np.array(offsets, dtype=np.int64).T
    height, width = (side - 2 * margin for side in padded.shape[1:])
    padded = F.pad(padded, [0, -width % WIDE])
    out = padded.new_empty(2, 3, height, padded.shape[2] - 2 * margin)
    at = 4 * (rows * padded.shape[2] + columns)
    narrow = F.pad(1 / (2 * widths) ** 2, [0, -width % WIDE])
    operands = padded.numpy(), at, narrow.numpy(), out.numpy(), margin
    run(lambda _, *block: _bilateral(*operands, *block), cut(height, 1, ROWS))
    return out[..., :width]
