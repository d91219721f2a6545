"""Terms of a picture: maps of it, each times some factors at every pixel, and sums of them.

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


def write_terms(scene: Scene, lists: Lists, rows: slice, out: Tensor) -> None:
    """Every term of some lists, in these rows of a scene, into ``out`` (terms, rows, W)."""
    if not _fused(scene):
        return write_terms_reference(scene, lists, rows, out)
    cpu.write_terms(scene, lists, rows, out)


def weighed(scene: Scene, lists: Lists, coefficients: Iterable[Iterable[float]]) -> Tensor:
    """For each list the sum (lists, H, W) of its terms, each times its coefficient."""
    if not _fused(scene):
        return weighed_reference(scene, lists, coefficients)
    return cpu.weighed(scene, lists, coefficients)


def _fused(scene: Scene) -> bool:
    return scene.planes.device.type == "cpu" and scene.planes.dtype == torch.float32


# -- the definition ----------------------------------------------------------------------------


def write_terms_reference(scene: Scene, lists: Lists, rows: slice, out: Tensor) -> None:
    """``write_terms`` in plain torch."""
    part = _rows(scene, rows)
    following = iter(out)
    for term in itertools.chain.from_iterable(lists):
        values = _value(part, term.map)
        for factor in term.factors:
            torch.mul(values, part.factors[factor], out=next(following))


def _rows(scene: Scene, rows: slice) -> Scene:
    around = scene.planes.shape[1] - scene.deviation.shape[0]
    return Scene(
        scene.planes[:, rows.start : rows.stop + around],
        [of[rows] for of in scene.maps],
        [of[rows] for of in scene.factors],
        scene.deviation[rows],
    )


def weighed_reference(
    scene: Scene, lists: Lists, coefficients: Iterable[Iterable[float]]
) -> Tensor:
    """``weighed`` in plain torch."""
    totals = scene.deviation.new_zeros(len(lists), *scene.deviation.shape)
    for total, terms, of_terms in zip(totals, lists, coefficients, strict=True):
        following = iter(of_terms)
        for term in terms:
            weight = torch.zeros_like(total)
            for factor in term.factors:
                weight.add_(scene.factors[factor], alpha=next(following))
            total.addcmul_(_value(scene, term.map), weight)
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
