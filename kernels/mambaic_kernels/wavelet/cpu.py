"""One wavelet level by numba: lifting steps within blocks of LANES lines.

A block is copied into a scratch that stays in the L1 cache, whichever way its lines run in memory;
all steps work there, on LANES lines at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mambaic_kernels.simd import exact_jit, f32, jit
from mambaic_kernels.threads import LANES, cut, run

Array = np.ndarray
CACHED = 1 << 18  # samples worked on at a time
SERIAL = 1 << 15  # samples under which threads cost more than they give
# lifting steps, gain of the low band and 1 / gain of the high one, whether the first step is on the
# odd samples, whether the steps are transposed
Lifting = tuple[tuple[float, ...], float, bool, bool]


@jit(inline="always")
def _lift(even, odd, steps, to_odd, transposed):  # type: ignore[no-untyped-def]
    """Lifting steps in turn, the first on ``odd`` (or not) from its two even neighbours. Beyond the
    ends the nearest sample counts twice; of a transposed step the one that it was taken from."""
    last = even.shape[0] - 1
    for step in steps:
        if to_odd:
            for i in range(last):
                for j in range(LANES):
                    odd[i, j] += step * (even[i, j] + even[i + 1, j])
            for j in range(LANES):
                odd[last, j] += step * even[last, j]
            edge = 0 if transposed else last
            for j in range(LANES):
                odd[edge, j] += step * even[edge, j]
        else:
            for i in range(1, last + 1):
                for j in range(LANES):
                    even[i, j] += step * (odd[i - 1, j] + odd[i, j])
            for j in range(LANES):
                even[0, j] += step * odd[0, j]
            edge = last if transposed else 0
            for j in range(LANES):
                even[edge, j] += step * odd[edge, j]
        to_odd = not to_odd


@jit(inline="always")
def _lines(block, m):  # type: ignore[no-untyped-def]
    """Of a block of lines: its plane, the first line there, and how many."""
    blocks = -(-m // LANES)
    start = block % blocks * LANES
    return block // blocks, start, min(LANES, m - start)


@jit(nogil=True)
def _separate(x, low, high, steps, gain, to_odd, transposed, first, last):  # type: ignore[no-untyped-def]
    """x (P, 2n, m) -> low, high (P, n, m), on lines first..last of the P * m."""
    n, m = low.shape[1:]
    even, odd = np.zeros((n, LANES), f32), np.zeros((n, LANES), f32)
    inverse = f32(1) / gain
    for block in range(first, last):
        p, start, width = _lines(block, m)
        for i in range(n):
            for j in range(width):
                even[i, j] = x[p, 2 * i, start + j]
                odd[i, j] = x[p, 2 * i + 1, start + j]
        _lift(even, odd, steps, to_odd, transposed)
        for i in range(n):
            for j in range(width):
                low[p, i, start + j] = even[i, j] * gain
                high[p, i, start + j] = odd[i, j] * inverse


@jit(inline="always")
def _store(x, even, odd, p, start, width):  # type: ignore[no-untyped-def]
    """A block of lines, in the order of memory: across it the pass takes twice as long."""
    n = len(even)
    if x.strides[1] < x.strides[2]:
        for j in range(width):
            for i in range(n):
                x[p, 2 * i, start + j] = even[i, j]
                x[p, 2 * i + 1, start + j] = odd[i, j]
    else:
        for i in range(n):
            for j in range(width):
                x[p, 2 * i, start + j] = even[i, j]
                x[p, 2 * i + 1, start + j] = odd[i, j]


@jit(nogil=True)
def _join(low, high, x, steps, gain, to_odd, transposed, first, last):  # type: ignore[no-untyped-def]
    """Low, high (P, n, m) -> x (P, 2n, m), on lines first..last of the P * m."""
    n, m = low.shape[1:]
    even, odd = np.zeros((n, LANES), f32), np.zeros((n, LANES), f32)
    inverse = f32(1) / gain
    for block in range(first, last):
        p, start, width = _lines(block, m)
        for i in range(n):
            for j in range(width):
                even[i, j] = low[p, i, start + j] * gain
                odd[i, j] = high[p, i, start + j] * inverse
        _lift(even, odd, steps, to_odd, transposed)
        _store(x, even, odd, p, start, width)


@exact_jit(inline="always")
def _lift_rounded(even, odd, step, to_odd, per_unit, unit):  # type: ignore[no-untyped-def]
    last = even.shape[0] - 1
    for i in range(last + 1):
        if to_odd:
            after = min(i + 1, last)
            for j in range(LANES):
                odd[i, j] += np.rint((even[i, j] + even[after, j]) * step * per_unit) * unit
        else:
            before = max(i - 1, 0)
            for j in range(LANES):
                even[i, j] += np.rint((odd[before, j] + odd[i, j]) * step * per_unit) * unit


@exact_jit(nogil=True)
def _join_rounded(low, high, x, steps, gain, high_gain, per_unit, first, last):  # type: ignore[no-untyped-def]
    """As ``_join``, every product rounded to a multiple of 1 / per_unit."""
    n, m = low.shape[1:]
    even, odd = np.zeros((n, LANES), f32), np.zeros((n, LANES), f32)
    unit = f32(1) / per_unit
    for block in range(first, last):
        p, start, width = _lines(block, m)
        for i in range(n):
            for j in range(width):
                even[i, j] = np.rint(low[p, i, start + j] * gain * per_unit) * unit
                odd[i, j] = np.rint(high[p, i, start + j] * high_gain * per_unit) * unit
        to_odd = False
        for step in steps:
            _lift_rounded(even, odd, step, to_odd, per_unit, unit)
            to_odd = not to_odd
        _store(x, even, odd, p, start, width)


def _over(kernel: Callable[..., None], arrays: list[Array], lifting: tuple[Any, ...]) -> None:
    """Run a kernel on all lines along axis 1 of ``arrays`` (P, n, m)."""
    planes, _, lines = arrays[0].shape
    blocks = planes * -(-lines // LANES)
    threads = 1 if arrays[0].size < SERIAL else torch.get_num_threads()
    share = -(-blocks // threads)
    steps, gain, *flags = lifting
    operands = *arrays, tuple(f32(step) for step in steps), f32(gain), *flags
    run(lambda _, first, last: kernel(*operands, first, last), cut(blocks, 1, share))


def _rotated(*arrays: Array) -> list[Array]:
    return [array.swapaxes(1, 2) for array in arrays]


def _parts(planes: int, samples: int) -> list[slice]:
    """Planes of ``samples`` each to work on at a time, so that what lies between two directions
    stays in the L2 cache where it can."""
    count = max(1, CACHED // samples)
    return [slice(first, min(first + count, planes)) for first in range(0, planes, count)]


def separate(x: Tensor, lifting: Lifting) -> Tensor:
    """x (P, 2h, 2w) -> its four bands (4, P, h, w): low, high along columns, along rows, both."""
    planes, height, width = x.shape
    bands = x.new_empty(4, planes, height // 2, width // 2)
    source, target = x.detach().contiguous().numpy(), bands.numpy()
    parts = _parts(planes, height * width)
    halves = np.empty((2, parts[0].stop, height, width // 2), f32)
    for part in parts:
        low, high = halves[:, : part.stop - part.start]
        low_low, low_high, high_low, high_high = target[:, part]
        _over(_separate, _rotated(source[part], low, high), lifting)
        _over(_separate, [low, low_low, low_high], lifting)
        _over(_separate, [high, high_low, high_high], lifting)
    return bands


def join(bands: Tensor, lifting: Lifting) -> Tensor:
    """Four bands (4, P, h, w) -> x (P, 2h, 2w)."""
    return _joined(bands, partial(_over, _join, lifting=lifting))


def join_rounded(
    bands: Tensor, steps: tuple[float, ...], gain: float, high_gain: float, per_unit: float
) -> Tensor:
    """``join``, every product rounded to a multiple of 1 / per_unit, a power of two."""
    lifting = steps, gain, f32(high_gain), f32(per_unit)
    return _joined(bands, partial(_over, _join_rounded, lifting=lifting))


def _joined(bands: Tensor, over: Callable[[list[Array]], None]) -> Tensor:
    _, planes, height, width = bands.shape
    x = bands.new_empty(planes, 2 * height, 2 * width)
    source, target = bands.detach().contiguous().numpy(), x.numpy()
    parts = _parts(planes, 4 * height * width)
    halves = np.empty((2, parts[0].stop, 2 * height, width), f32)
    for part in parts:
        low, high = halves[:, : part.stop - part.start]
        low_low, low_high, high_low, high_high = source[:, part]
        over([low_low, low_high, low])
        over([high_low, high_high, high])
        over(_rotated(low, high, target[part]))
    return x
