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
    total = np.empty(channels, np.float32)
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
            for key in range(count):
                near[key] = of_query[key // wide * side + key % wide]
                some[key] = f32(0)
            for c in range(channels):
                factor, of_channel = _level(q[c], of_q), keys_by_channel[c, :count]
                for key in range(count):
                    some[key] += factor * of_channel[key]
            for key in range(count):
                some[key] = np.rint(some[key] * per_unit * _PER_UNIT) * _UNIT + near[key]
            _share_out(some, place, powers, per_step, parts)
            total[:] = f32(0)
            for key in range(count):
                share, of_key = some[key], values[key]
                for c in range(channels):
                    total[c] += share * of_key[c]
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
