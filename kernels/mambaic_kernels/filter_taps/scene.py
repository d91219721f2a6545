"""What filter taps are made of: the maps of a scene, and which of them each tap combines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from mambaic_kernels.smoothing.reference import Offsets

UNCLIPPED = 1e30


class Map(NamedTuple):
    """``source``, one of the maps of a scene; or, with ``offsets``, the sum of the differences to
    the pixels there of one of its planes. The map or every difference is clamped to +-(``clip`` +
    ``share`` * deviation)."""

    source: int
    offsets: Offsets = ()
    clip: float = UNCLIPPED
    share: float = 0.0


class Tap(NamedTuple):
    """A map, and the factors that it is weighted by: as many taps as factors."""

    map: Map
    factors: tuple[int, ...]


Taps = tuple[Tap, ...]
Lists = tuple[Taps, ...]


class Scene(NamedTuple):
    """What taps are made of. ``planes`` (P, H + 2 m, W + 2 m) have m pixels around them, as far as
    offsets reach; ``maps`` and ``factors``, each of them (H, W); ``deviation`` (H, W)."""

    planes: Tensor
    maps: Sequence[Tensor]
    factors: Sequence[Tensor]
    deviation: Tensor


def count_taps(taps: Taps) -> int:
    """How many there are, a factor after the other."""
    return sum(len(tap.factors) for tap in taps)
