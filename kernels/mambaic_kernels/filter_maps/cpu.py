"""The numba pass of ``mambaic_kernels.filter_maps.reference``, rows in blocks over threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor
from torch.nn import functional as F

from mambaic_kernels.filter_maps import constants as of
from mambaic_kernels.simd import f32, jit
from mambaic_kernels.threads import cut, run

ROWS = 16  # of a block
WIDE = 16  # pixels whose sums over all offsets stay in registers
VECTOR = ir.VectorType(ir.FloatType(), WIDE)
MARGIN, EDGE, AVERAGED = of.MARGIN, of.EDGE, of.AVERAGED
CLIP, LEAST_WIDTH = f32(of.CLIP), f32(of.LEAST_WIDTH)
SHARE, WIDE_SHARE = map(f32, of.WIDTH_SHARES)
LEAST_GRADIENT, LEAST_CONTRAST = f32(of.LEAST_GRADIENT), f32(of.LEAST_CONTRAST)
OF_AVERAGED = f32(1 / (2 * of.AVERAGED + 1) ** 2)
OF_EDGE = f32(1 / (2 * of.EDGE + 1) ** 2)


@intrinsic
def _similar(typingctx, own, plane, offsets, count, narrow, line, out, out_plane):  # type: ignore[no-untyped-def]
    """``similar`` of WIDE pixels for two widths, written as vectors: a loop that LLVM vectorises
    keeps its sums in memory, and takes twice as long.

    Takes addresses and bytes: of the first pixel in plane 0, from a plane to the next; of
    ``count`` offsets in bytes; of the first pixel's 1 / (2 width)**2, from a width to the next; of
    its result, and from a plane to the next.
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

        own, plane, offsets, count, narrow, line, out, out_plane = arguments
        one = constant(1.0)
        widths, colours = range(2), range(3)
        owns = [builder.load(place(own, plane, p), align=4) for p in colours]
        narrows = [builder.load(place(narrow, line, s), align=4) for s in widths]
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
    signature = (address, address, address, types.int64, address, address, address, address)
    return types.void(*signature), codegen


# slices of what is read alone: LLVM makes no vectors of indices that might be negative


@jit(inline="always")
def _at(plane, y, dy, dx, width):  # type: ignore[no-untyped-def]
    start = MARGIN + dx
    return plane[MARGIN + y + dy, start : start + width]


@jit(inline="always")
def _differences(plane, y, dy, dx, own, out):  # type: ignore[no-untyped-def]
    """To the pixels at (dy, dx) and at its three turns by a right angle."""
    width = len(own)
    a, b = _at(plane, y, dy, dx, width), _at(plane, y, dx, -dy, width)
    c, d = _at(plane, y, -dy, -dx, width), _at(plane, y, -dx, dy, width)
    for i in range(width):
        out[i] = a[i] + b[i] + c[i] + d[i] - f32(4) * own[i]


@jit(inline="always")
def _clamped(x, limit):  # type: ignore[no-untyped-def]
    return min(max(x, -limit), limit)


@jit(inline="always")
def _clipped(plane, y, dy, dx, own, limit, out):  # type: ignore[no-untyped-def]
    width = len(own)
    a, b = _at(plane, y, dy, dx, width), _at(plane, y, dx, -dy, width)
    c, d = _at(plane, y, -dy, -dx, width), _at(plane, y, -dx, dy, width)
    for i in range(width):
        near = _clamped(a[i] - own[i], limit[i]) + _clamped(b[i] - own[i], limit[i])
        out[i] = near + _clamped(c[i] - own[i], limit[i]) + _clamped(d[i] - own[i], limit[i])


@jit(inline="always")
def _along(columns, radius, share, out):  # type: ignore[no-untyped-def]
    """Sums over 2 radius + 1 columns, times ``share``."""
    width = len(out)
    out[:] = f32(0)
    for k in range(2 * radius + 1):
        part = columns[k : k + width]
        for i in range(width):
            out[i] += part[i]
    for i in range(width):
        out[i] *= share


@jit(inline="always")
def _direction(plane, y, columns, cosine, sine):  # type: ignore[no-untyped-def]
    """Of the steepest change around each pixel, twice its angle."""
    wide = len(cosine) + 2 * EDGE
    of_cosine, of_sine = columns[0, :wide], columns[1, :wide]
    columns[:] = f32(0)
    for dy in range(-EDGE, EDGE + 1):
        left, right = _at(plane, y, dy, -EDGE - 1, wide), _at(plane, y, dy, 1 - EDGE, wide)
        above, below = _at(plane, y, dy - 1, -EDGE, wide), _at(plane, y, dy + 1, -EDGE, wide)
        for i in range(wide):
            across, down = right[i] - left[i], below[i] - above[i]
            of_cosine[i] += across * across - down * down
            of_sine[i] += f32(2) * across * down
    _along(of_cosine, EDGE, OF_EDGE, cosine)
    _along(of_sine, EDGE, OF_EDGE, sine)
    for i in range(len(cosine)):
        length = np.sqrt(cosine[i] * cosine[i] + sine[i] * sine[i]) + LEAST_GRADIENT
        cosine[i] /= length
        sine[i] /= length


@jit(inline="always")
def _across(plane, y, cosine, sine, out):  # type: ignore[no-untyped-def]
    width = len(out)
    right, left = _at(plane, y, 0, 1, width), _at(plane, y, 0, -1, width)
    below, above = _at(plane, y, 1, 0, width), _at(plane, y, -1, 0, width)
    for i in range(width):
        out[i] = cosine[i] * (right[i] + left[i] - below[i] - above[i])
    right, left = _at(plane, y, 1, 1, width), _at(plane, y, -1, -1, width)
    below, above = _at(plane, y, 1, -1, width), _at(plane, y, -1, 1, width)
    for i in range(width):
        out[i] += f32(0.5) * sine[i] * (right[i] + left[i] - below[i] - above[i])


@jit(inline="always")
def _factors(plane, y, deviation, columns, ratio, brightness):  # type: ignore[no-untyped-def]
    width = len(deviation)
    wide = width + 2 * AVERAGED
    sums, of_squares = columns[0, :wide], columns[1, :wide]
    columns[:] = f32(0)
    for dy in range(-AVERAGED, AVERAGED + 1):
        x = _at(plane, y, dy, -AVERAGED, wide)
        for i in range(wide):
            sums[i] += x[i]
            of_squares[i] += x[i] * x[i]
    _along(sums, AVERAGED, OF_AVERAGED, brightness)
    _along(of_squares, AVERAGED, OF_AVERAGED, ratio)
    for i in range(width):
        contrast = np.sqrt(max(ratio[i] - brightness[i] * brightness[i], f32(0)))
        ratio[i] = deviation[i] / (deviation[i] + contrast + LEAST_CONTRAST)
        brightness[i] *= f32(2)


@jit(nogil=True)
def _rows(planes, deviation, offsets, maps, factors, first, last):  # type: ignore[no-untyped-def]
    """Rows first..last of maps (9, 3, H, W) and factors (3, H, W), W a multiple of WIDE."""
    width = deviation.shape[1]
    columns = np.empty((2, planes.shape[2]), f32)
    space = np.empty((5, width), f32)
    limit, narrow, cosine, sine = space[0], space[1:3], space[3], space[4]
    line, plane = 4 * planes.shape[2], 4 * planes.shape[1] * planes.shape[2]
    for y in range(first, last):
        off = deviation[y]
        for i in range(width):
            limit[i] = CLIP * off[i]
            near, far = SHARE * off[i] + LEAST_WIDTH, WIDE_SHARE * off[i] + LEAST_WIDTH
            narrow[0, i] = f32(0.25) / (near * near)
            narrow[1, i] = f32(0.25) / (far * far)
        factors[0, y] = f32(1)
        _factors(planes[0], y, off, columns, factors[1, y], factors[2, y])
        _direction(planes[0], y, columns, cosine, sine)
        for p in range(3):
            of_plane = planes[p]
            own = _at(of_plane, y, 0, 0, width)
            _differences(of_plane, y, 0, 1, own, maps[0, p, y])
            _differences(of_plane, y, 0, 2, own, maps[1, p, y])
            _clipped(of_plane, y, 0, 1, own, limit, maps[2, p, y])
            _clipped(of_plane, y, 0, 2, own, limit, maps[3, p, y])
            _clipped(of_plane, y, 1, 1, own, limit, maps[4, p, y])
            _across(of_plane, y, cosine, sine, maps[7, p, y])
            maps[8, p, y] = own
        begin = planes.ctypes.data + np.uintp((y + MARGIN) * line + 4 * MARGIN)
        target = maps[5, 0, y].ctypes.data
        for x in range(0, 4 * width, 4 * WIDE):
            _similar(  # type: ignore[call-arg]
                begin + np.uintp(x),
                np.uintp(plane),
                offsets.ctypes.data,
                len(offsets),
                narrow.ctypes.data + np.uintp(x),
                np.uintp(4 * width),
                target + np.uintp(x),
                np.uintp(4 * maps.shape[2] * width),
            )


def filter_maps(planes: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """See ``mambaic_kernels.filter_maps.reference``."""
    height, width = deviation.shape
    planes, deviation = (F.pad(x, [0, -width % WIDE]).contiguous() for x in (planes, deviation))
    maps = planes.new_empty(len(of.MAPS), 3, *deviation.shape)
    factors = planes.new_empty(len(of.FACTORS), *deviation.shape)
    rows, columns = np.array(of.RINGS, dtype=np.int64).T
    offsets = 4 * (rows * planes.shape[2] + columns)
    arrays = planes.numpy(), deviation.numpy(), offsets, maps.numpy(), factors.numpy()
    run(lambda _, *block: _rows(*arrays, *block), cut(height, 1, ROWS))
    return maps[..., :width], factors[..., :width]
