"""Maps of a picture, and factors that they are weighted by, for the post-filter.

Differences of each pixel to its neighbours and to similar pixels around it, and how far it may be
off for the contrast around it. In float32 they are one numba pass over rows in the cache on CPUs,
one launch on GPUs; elsewhere plain torch, which is the definition.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from mambaic_kernels.dispatch import by_definition, module_for
from mambaic_kernels.filter_maps.constants import (
    AVERAGED,
    CLIP,
    DIAGONAL,
    EDGE,
    LEAST_CONTRAST,
    LEAST_GRADIENT,
    LEAST_WIDTH,
    MARGIN,
    NEXT,
    RINGS,
    SECOND,
    WIDTH_SHARES,
)


def filter_maps(planes: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """MAPS of every plane (9, P, H, W), and FACTORS (3, H, W), of P = 3 planes with MARGIN pixels
    around them (P, H + 2 MARGIN, W + 2 MARGIN); ``deviation`` (H, W) of pixels to expect."""
    if planes.device.type == "cpu" and planes.dtype == torch.float32:
        from mambaic_kernels.filter_maps import cpu

        return cpu.filter_maps(planes, deviation)
    on_gpu = planes.device.type == "cuda" and not by_definition(__package__)
    if on_gpu and planes.dtype == torch.float32:
        return module_for(__package__, planes).filter_maps(planes, deviation)
    return filter_maps_reference(planes, deviation)


# -- the definition ----------------------------------------------------------------------------


def filter_maps_reference(planes: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """``filter_maps`` in plain torch."""
    own = _at(planes, (0, 0), deviation)
    limit = CLIP * deviation

    def differences(offsets: tuple[tuple[int, int], ...], *, clipped: bool = False) -> Tensor:
        each = [_at(planes, offset, deviation) - own for offset in offsets]
        return reduce(torch.add, [d.clamp(-limit, limit) for d in each] if clipped else each)

    maps = [
        *(differences(NEXT), differences(SECOND)),
        *(differences(offsets, clipped=True) for offsets in (NEXT, SECOND, DIAGONAL)),
        *(similar(planes, share * deviation + LEAST_WIDTH) for share in WIDTH_SHARES),
        _across(planes, deviation),
        own,
    ]
    mean, of_squares = (_box_mean(x, AVERAGED, deviation) for x in (planes[0], planes[0] ** 2))
    contrast = (of_squares - mean * mean).clamp(min=0).sqrt()
    ratio = deviation / (deviation + contrast + LEAST_CONTRAST)
    return torch.stack(maps), torch.stack([torch.ones_like(ratio), ratio, 2 * mean])


def similar(planes: Tensor, width: Tensor) -> Tensor:
    """How far pixels (P, H, W) are from the mean of similar ones around them. With d the difference
    of the pixel at an offset,

        sum of w d over RINGS / (1 + sum of w),   w = (1 + (|d| / (2 width))**2) ** -4,

    close to a Gaussian and cheaper: a bilateral filter ([Tomasi1998] doi:10.1109/ICCV.1998.710815)
    of a few offsets."""
    own = _at(planes, (0, 0), width)
    total, sums = torch.ones_like(width), torch.zeros_like(own)
    for offset in RINGS:
        difference = _at(planes, offset, width) - own
        weight = (1 + difference.square().sum(dim=0) / (2 * width) ** 2) ** -4
        total += weight
        sums += weight * difference
    return sums / total


def _across(planes: Tensor, inner: Tensor) -> Tensor:
    """Second differences across edges of plane 0 less those along them, by the cosine and sine of
    twice the angle at which it changes most: by the structure tensor around each pixel."""
    x = planes[0]
    right, down = torch.zeros_like(x), torch.zeros_like(x)
    right[:, 1:-1], down[1:-1] = x[:, 2:] - x[:, :-2], x[2:] - x[:-2]
    products = (right * right - down * down, 2 * right * down)
    cosine, sine = (_box_mean(of, EDGE, inner) for of in products)
    length = (cosine * cosine + sine * sine).sqrt() + LEAST_GRADIENT

    def at(dy: int, dx: int) -> Tensor:
        return _at(planes, (dy, dx), inner)

    straight = at(0, 1) + at(0, -1) - at(1, 0) - at(-1, 0)
    diagonal = (at(1, 1) + at(-1, -1) - at(1, -1) - at(-1, 1)) / 2
    return (cosine * straight + sine * diagonal) / length


def _at(x: Tensor, offset: tuple[int, int], inner: Tensor) -> Tensor:
    """The pixels at an offset from those of ``inner``, of maps with MARGIN around them."""
    (dy, dx), (height, width) = offset, inner.shape
    return x[..., MARGIN + dy :, MARGIN + dx :][..., :height, :width]


def _box_mean(x: Tensor, radius: int, inner: Tensor) -> Tensor:
    around = range(-radius, radius + 1)
    parts = [_at(x, (dy, dx), inner) for dy in around for dx in around]
    return reduce(torch.add, parts) / len(parts)
