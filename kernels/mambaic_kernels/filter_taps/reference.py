"""Taps of a picture: maps of it, each times some factors at every pixel, and sums of them.

In float32 on CPUs they are numba passes over pieces of rows in the cache; elsewhere plain torch,
which is the definition.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor

from mambaic_kernels.filter_taps import cpu
from mambaic_kernels.filter_taps.scene import Lists, Map, Scene


def write_taps(scene: Scene, lists: Lists, rows: slice, out: Tensor) -> None:
    """Every tap of some lists, in these rows of a scene, into ``out`` (taps, rows, W)."""
    if not _fused(scene):
        return write_taps_reference(scene, lists, rows, out)
    cpu.write_taps(scene, lists, rows, out)


def weighted_sums(scene: Scene, lists: Lists, coefficients: Iterable[Iterable[float]]) -> Tensor:
    """For each list the sum (lists, H, W) of its taps, each times its coefficient."""
    if not _fused(scene):
        return weighted_sums_reference(scene, lists, coefficients)
    return cpu.weighted_sums(scene, lists, coefficients)


def _fused(scene: Scene) -> bool:
    return scene.planes.device.type == "cpu" and scene.planes.dtype == torch.float32


# -- the definition ----------------------------------------------------------------------------


def write_taps_reference(scene: Scene, lists: Lists, rows: slice, out: Tensor) -> None:
    """``write_taps`` in plain torch."""
    part = _rows(scene, rows)
    following = iter(out)
    for tap in itertools.chain.from_iterable(lists):
        values = _value(part, tap.map)
        for factor in tap.factors:
            torch.mul(values, part.factors[factor], out=next(following))


def _rows(scene: Scene, rows: slice) -> Scene:
    around = scene.planes.shape[1] - scene.deviation.shape[0]
    return Scene(
        scene.planes[:, rows.start : rows.stop + around],
        [of[rows] for of in scene.maps],
        [of[rows] for of in scene.factors],
        scene.deviation[rows],
    )


def weighted_sums_reference(
    scene: Scene, lists: Lists, coefficients: Iterable[Iterable[float]]
) -> Tensor:
    """``weighted_sums`` in plain torch."""
    totals = scene.deviation.new_zeros(len(lists), *scene.deviation.shape)
    for total, taps, of_taps in zip(totals, lists, coefficients, strict=True):
        following = iter(of_taps)
        for tap in taps:
            weight = torch.zeros_like(total)
            for factor in tap.factors:
                weight.add_(scene.factors[factor], alpha=next(following))
            total.addcmul_(_value(scene, tap.map), weight)
    return totals


def _value(scene: Scene, of: Map) -> Tensor:
    limit = of.clip + of.share * scene.deviation
    if not of.offsets:
        return scene.maps[of.source].clamp(-limit, limit)
    plane, own = scene.planes[of.source], scene.deviation
    margin = (plane.shape[0] - own.shape[0]) // 2

    def at(dy: int, dx: int) -> Tensor:
        return plane[margin + dy :, margin + dx :][: own.shape[0], : own.shape[1]]

    differences = ((at(*offset) - at(0, 0)).clamp_(-limit, limit) for offset in of.offsets)
    return torch.stack(list(differences)).sum(dim=0)
