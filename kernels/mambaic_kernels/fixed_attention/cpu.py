"""By numba: a window of one head after the other, which stays in the L1 cache."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from mambaic_kernels.fixed_attention.reference import Scales
from mambaic_kernels.fixed_point.reference import PER_UNIT, UNIT, to_grid
from mambaic_kernels.fixed_point.rows import spread
from mambaic_kernels.simd import exact_jit, f32

_PER_UNIT, _UNIT = f32(PER_UNIT), f32(UNIT)


@exact_jit(inline="always")
def _level(x, levels):  # type: ignore[no-untyped-def]
    return min(max(np.rint(x * levels[0]), -levels[1]), levels[1])


@exact_jit(inline="always")
def _share_out(logits, place, powers, per_step, parts):  # type: ignore[no-untyped-def]
    """As ``fixed_point.reference.shares``, of the logits of one query."""
    end, most, total = f32(len(powers) - 1), f32(-np.inf), np.int32(0)
    for key in range(len(logits)):
        most = max(most, logits[key])
    for key in range(len(logits)):
        place[key] = np.int32(min(end, np.rint((most - logits[key]) * per_step)))
    for key in range(len(logits)):
        logits[key] = powers[np.uint32(place[key])]
    for key in range(len(logits)):
        total += np.int32(logits[key])
    for key in range(len(logits)):
        logits[key] = np.rint(logits[key] * parts / f32(total))


@exact_jit(inline="always")
def _weighted_sum(weights, rows, out):  # type: ignore[no-untyped-def]
    """Of integers, four rows at a time: the sums are read and written a quarter as often."""
    width, count = len(out), len(weights)
    out[:] = f32(0)
    for first in range(0, count - 3, 4):
        a, b, c, d = rows[first], rows[first + 1], rows[first + 2], rows[first + 3]
        w, x, y, z = weights[first], weights[first + 1], weights[first + 2], weights[first + 3]
        for i in range(width):
            out[i] += (w * a[i] + x * b[i]) + (y * c[i] + z * d[i])
    for row in range(count - count % 4, count):
        of_row = rows[row]
        for i in range(width):
            out[i] += weights[row] * of_row[i]


@exact_jit(nogil=True)
def _windows(qkv, bias, powers, out, side, of_q, of_k, of_v, scales, first, last):  # type: ignore[no-untyped-def]
    """Windows first..last of all heads; ``bias`` (heads, S, S) on the grid."""
    _, height, width, whole = qkv.shape
    per_unit, per_step, parts, scale = scales
    heads = len(bias)
    inner = whole // 3
    channels = inner // heads
    across, down = -(-width // side), -(-height // side)
    keys_by_channel = np.empty((channels, side * side), np.float32)
    values = np.empty((side * side, channels), np.float32)
    logits, beside = np.empty((2, side * side), np.float32)
    place = np.empty(side * side, np.int32)
    levels, total = np.empty((2, channels), np.float32)
    for item in range(first, last):
        head, window = item % heads, item // heads
        b, row, column = window // (across * down), window // across % down, window % across
        top, left = row * side, column * side
        # what is beyond the map has no share: it is left out
        tall, wide = min(side, height - top), min(side, width - left)
        count, start = tall * wide, head * channels
        for key in range(count):
            own = qkv[b, top + key // wide, left + key % wide]
            k, v = own[inner + start :], own[2 * inner + start :]
            for c in range(channels):
                keys_by_channel[c, key] = _level(k[c], of_k)
                values[key, c] = _level(v[c], of_v)
        some, near = logits[:count], beside[:count]
        for query in range(count):
            y, x = query // wide, query % wide
            q = qkv[b, top + y, left + x, start:]
            to = out[b, top + y, left + x, start : start + channels]
            of_query = bias[head, y * side + x]
            if wide == side:
                for key in range(count):
                    near[key] = of_query[key]
            else:
                for key in range(count):
                    near[key] = of_query[key // wide * side + key % wide]
            for c in range(channels):
                levels[c] = _level(q[c], of_q)
            _weighted_sum(levels, keys_by_channel, some)
            for key in range(count):
                some[key] = np.rint(some[key] * per_unit * _PER_UNIT) * _UNIT + near[key]
            _share_out(some, place, powers, per_step, parts)
            _weighted_sum(some, values, total)
            for c in range(channels):
                to[c] = np.rint(total[c] * scale * _PER_UNIT) * _UNIT


def attention(qkv: Tensor, bias: Tensor, offset: Tensor, powers: Tensor, scales: Scales) -> Tensor:
    """See ``mambaic_kernels.fixed_attention.attention``."""
    batch, height, width, whole = qkv.shape
    side, heads = math.isqrt(len(offset)), len(bias)
    out = torch.empty(batch, height, width, whole // 3, dtype=qkv.dtype)
    beside = to_grid(bias[:, offset]).numpy()
    arrays = qkv.contiguous().numpy(), beside, powers.numpy(), out.numpy()
    levels = (tuple(map(f32, of)) for of in scales[:3])
    constants = side, *levels, tuple(map(f32, scales[3:]))
    windows = batch * -(-height // side) * -(-width // side)
    work = 2 * side**4 * whole // 3 // heads
    spread(lambda a, b: _windows(*arrays, *constants, a, b), windows * heads, work)
    return out
