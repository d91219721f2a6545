"""Smoothing of pictures: means over squares, and differences to pixels of similar colours.

In float32 on CPUs they are numba passes over rows in the cache; elsewhere plain torch, which is the
definition.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

Offsets = tuple[tuple[int, int], ...]  # rows, columns


def box_mean(maps: Tensor, radius: int) -> Tensor:
    """Means (P, H, W) of maps (P, H, W) over squares of 2 * radius + 1; beyond the border the last
    pixels repeat."""
    if not _fused(maps):
        return box_mean_reference(maps, radius)
    from mambaic_kernels.smoothing import cpu as smooth_cpu

    return smooth_cpu.box_mean(_padded(maps, radius), radius)


def bilateral(planes: Tensor, offsets: Offsets, widths: Tensor) -> Tensor:
    """How far pixels are from the mean of similar ones around them, for each of two ``widths``
    (2, H, W): (2, 3, H, W) from planes (3, H, W). With d the difference of the pixel at an offset,
    beyond the border the last one,

        sum of w d over offsets / (1 + sum of w),   w = (1 + (|d| / (2 width))**2) ** -4,

    close to a Gaussian and cheaper: a bilateral filter ([Tomasi1998]) of a few offsets.
    """
    if not _fused(planes):
        return bilateral_reference(planes, offsets, widths)
    from mambaic_kernels.smoothing import cpu as smooth_cpu

    margin = _reach(offsets)
    return smooth_cpu.bilateral(_padded(planes, margin), margin, offsets, widths)


def _fused(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and not x.requires_grad


def _padded(maps: Tensor, margin: int) -> Tensor:
    return F.pad(maps[None], [margin] * 4, mode="replicate")[0]


def _reach(offsets: Offsets) -> int:
    return max(max(abs(dy), abs(dx)) for dy, dx in offsets)


# -- the definition ----------------------------------------------------------------------------


def box_mean_reference(maps: Tensor, radius: int) -> Tensor:
    """``box_mean`` in plain torch."""
    side = 2 * radius + 1
    sums = _padded(maps, radius)
    for dim in (1, 2):
        sums = reduce(torch.add, (sums.narrow(dim, at, maps.shape[dim]) for at in range(side)))
    return sums / side**2


def bilateral_reference(planes: Tensor, offsets: Offsets, widths: Tensor) -> Tensor:
    """``bilateral`` in plain torch."""
    margin, (height, width) = _reach(offsets), planes.shape[1:]
    padded = _padded(planes, margin)
    sums = planes.new_zeros(2, *planes.shape)
    totals = planes.new_ones(2, 1, height, width)
    for dy, dx in offsets:
        other = padded[:, margin + dy :, margin + dx :][:, :height, :width]
        difference = other - planes
        distance = difference.square().sum(dim=0)
        for which, wide in enumerate(widths):
            weight = (1 + distance / (2 * wide) ** 2) ** -4
            sums[which] += weight * difference
            totals[which] += weight
    return sums / totals
