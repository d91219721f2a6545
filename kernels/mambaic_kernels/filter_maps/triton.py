"""CUDA backend of the maps of the post-filter: one launch, where torch takes thousands.

Tested on CPU with TRITON_INTERPRET=1.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from mambaic_kernels.filter_maps.constants import (
    AVERAGED,
    CLIP,
    EDGE,
    FACTORS,
    LEAST_CONTRAST,
    LEAST_GRADIENT,
    LEAST_WIDTH,
    MAPS,
    MARGIN,
    RINGS,
    WIDTH_SHARES,
)
from mambaic_kernels.scan.operators import watched

BLOCK = 128
_CLIP, _EDGE, _AVERAGED = tl.constexpr(CLIP), tl.constexpr(EDGE), tl.constexpr(AVERAGED)
_NARROW, _WIDE = (tl.constexpr(share) for share in WIDTH_SHARES)
_LEAST_WIDTH, _MARGIN = tl.constexpr(LEAST_WIDTH), tl.constexpr(MARGIN)
_LEAST_CONTRAST, _LEAST_GRADIENT = tl.constexpr(LEAST_CONTRAST), tl.constexpr(LEAST_GRADIENT)


@triton.jit
def _around(at, own, down, right, limit, ok):
    """Sums of the differences to four pixels at right angles, as they are and clipped."""
    plain = tl.zeros_like(own)
    clipped = tl.zeros_like(own)
    for turn in tl.static_range(4):
        step = down if turn % 2 else right
        other = at - step if turn >= 2 else at + step
        difference = tl.load(other, mask=ok, other=0.0) - own
        plain += difference
        clipped += tl.minimum(tl.maximum(difference, -limit), limit)
    return plain, clipped


@triton.jit
def _box_means(at, width, ok):
    """Of brightness and its square."""
    total = tl.zeros_like(tl.load(at, mask=ok, other=0.0))
    squares = tl.zeros_like(total)
    for row in range(2 * _AVERAGED + 1):
        for column in range(2 * _AVERAGED + 1):
            dy, dx = row - _AVERAGED, column - _AVERAGED
            value = tl.load(at + dy * width + dx, mask=ok, other=0.0)
            total += value
            squares += value * value
    count = (2 * _AVERAGED + 1) * (2 * _AVERAGED + 1)
    return total / count, squares / count


@triton.jit
def _directions(at, width, ok):
    """Cosine and sine of twice the angle of the steepest change, times its strength."""
    cosine = tl.zeros_like(tl.load(at, mask=ok, other=0.0))
    sine = tl.zeros_like(cosine)
    for row in range(2 * _EDGE + 1):
        for column in range(2 * _EDGE + 1):
            dy, dx = row - _EDGE, column - _EDGE
            near = at + dy * width + dx
            right = tl.load(near + 1, mask=ok, other=0.0) - tl.load(near - 1, mask=ok, other=0.0)
            below, above = near + width, near - width
            down = tl.load(below, mask=ok, other=0.0) - tl.load(above, mask=ok, other=0.0)
            cosine += right * right - down * down
            sine += 2 * right * down
    count = (2 * _EDGE + 1) * (2 * _EDGE + 1)
    return cosine / count, sine / count


@triton.jit
def _similar(at, plane, width, own0, own1, own2, rings, RINGS: tl.constexpr, spread, ok):
    """How far pixels of three planes are from the mean of similar ones around them."""
    total = tl.zeros_like(own0) + 1.0
    sums0, sums1, sums2 = tl.zeros_like(own0), tl.zeros_like(own0), tl.zeros_like(own0)
    for ring in range(RINGS):
        near = at + tl.load(rings + 2 * ring) * width + tl.load(rings + 2 * ring + 1)
        d0 = tl.load(near, mask=ok, other=0.0) - own0
        d1 = tl.load(near + plane, mask=ok, other=0.0) - own1
        d2 = tl.load(near + 2 * plane, mask=ok, other=0.0) - own2
        share = 1.0 + (d0 * d0 + d1 * d1 + d2 * d2) / (4.0 * spread * spread)
        share = 1.0 / (share * share)
        share = share * share
        total += share
        sums0 += share * d0
        sums1 += share * d1
        sums2 += share * d2
    return sums0 / total, sums1 / total, sums2 / total


@triton.jit
def _maps_kernel(
    planes, deviation, rings, maps, factors, height, width, of_row, RINGS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """All maps (9, 3, height, width) and factors (3, height, width) of some pixels."""
    pixel = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    count = height * width
    ok = pixel < count
    y, x = pixel // width, pixel % width
    wide = width + 2 * _MARGIN
    plane = (height + 2 * _MARGIN).to(tl.int64) * wide
    at = planes + (y + _MARGIN) * wide + x + _MARGIN
    off = tl.load(deviation + y * of_row + x, mask=ok, other=1.0)
    limit = _CLIP * off
    for own_plane in tl.static_range(3):
        here = at + own_plane * plane
        own = tl.load(here, mask=ok, other=0.0)
        next_, next_clipped = _around(here, own, wide, 1, limit, ok)
        second, second_clipped = _around(here, own, 2 * wide, 2, limit, ok)
        _, diagonal = _around(here, own, wide - 1, wide + 1, limit, ok)
        to = maps + own_plane * count + pixel
        tl.store(to, next_, mask=ok)
        tl.store(to + 3 * count, second, mask=ok)
        tl.store(to + 6 * count, next_clipped, mask=ok)
        tl.store(to + 9 * count, second_clipped, mask=ok)
        tl.store(to + 12 * count, diagonal, mask=ok)
        tl.store(to + 24 * count, own, mask=ok)
    cosine, sine = _directions(at, wide, ok)
    length = tl.sqrt(cosine * cosine + sine * sine) + _LEAST_GRADIENT
    for own_plane in tl.static_range(3):
        here = at + own_plane * plane
        left, right = tl.load(here - 1, mask=ok, other=0.0), tl.load(here + 1, mask=ok, other=0.0)
        up = tl.load(here - wide, mask=ok, other=0.0)
        down = tl.load(here + wide, mask=ok, other=0.0)
        falling = tl.load(here + wide + 1, mask=ok, other=0.0)
        falling += tl.load(here - wide - 1, mask=ok, other=0.0)
        rising = tl.load(here + wide - 1, mask=ok, other=0.0)
        rising += tl.load(here - wide + 1, mask=ok, other=0.0)
        across = cosine * (right + left - down - up) + sine * (falling - rising) / 2
        tl.store(maps + (21 + own_plane) * count + pixel, across / length, mask=ok)
    own0 = tl.load(at, mask=ok, other=0.0)
    own1 = tl.load(at + plane, mask=ok, other=0.0)
    own2 = tl.load(at + 2 * plane, mask=ok, other=0.0)
    for wider in tl.static_range(2):
        spread = (_WIDE if wider else _NARROW) * off + _LEAST_WIDTH
        near0, near1, near2 = _similar(at, plane, wide, own0, own1, own2, rings, RINGS, spread, ok)
        to = maps + (15 + 3 * wider) * count + pixel
        tl.store(to, near0, mask=ok)
        tl.store(to + count, near1, mask=ok)
        tl.store(to + 2 * count, near2, mask=ok)
    mean, of_squares = _box_means(at, wide, ok)
    contrast = tl.sqrt(tl.maximum(of_squares - mean * mean, 0.0))
    tl.store(factors + pixel, tl.zeros_like(mean) + 1.0, mask=ok)
    tl.store(factors + count + pixel, off / (off + contrast + _LEAST_CONTRAST), mask=ok)
    tl.store(factors + 2 * count + pixel, 2 * mean, mask=ok)


@lru_cache(maxsize=8)
def _rings(device: torch.device) -> Tensor:
    return torch.tensor(RINGS, dtype=torch.int32, device=device)


def _launch(planes: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    planes = planes.contiguous()
    if deviation.stride(1) != 1:
        deviation = deviation.contiguous()
    height, width = deviation.shape
    maps = planes.new_empty(len(MAPS), 3, height, width)
    factors = planes.new_empty(len(FACTORS), height, width)
    if deviation.numel():
        _maps_kernel[(triton.cdiv(height * width, BLOCK),)](
            planes, deviation, _rings(planes.device), maps, factors, height, width,
            deviation.stride(0), RINGS=len(RINGS), BLOCK=BLOCK,
        )  # fmt: skip
    return maps, factors


_operator = torch.library.custom_op("mambaic::filter_maps", _launch, mutates_args=())


@_operator.register_fake
def _(planes, deviation):  # type: ignore[no-untyped-def]
    return (
        planes.new_empty(len(MAPS), 3, *deviation.shape),
        planes.new_empty(len(FACTORS), *deviation.shape),
    )


def filter_maps(planes: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """See ``mambaic_kernels.filter_maps.reference.filter_maps``."""
    found: tuple[Tensor, Tensor] = (_operator if watched(planes) else _launch)(planes, deviation)
    return found
