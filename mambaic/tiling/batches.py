"""Which tiles, of one picture or many, go through the networks of the walk together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

K = TypeVar("K", bound=Hashable)

LATENTS = 1 << 15  # positions of a batch at most, where it is more than one tile


def batches(sizes: Sequence[tuple[int, int]], kinds: Sequence[K]) -> list[list[int]]:
    """Tiles of these sizes (rows, columns) by number, those of equal size and kind together."""
    alike: dict[tuple[tuple[int, int], K], list[int]] = {}
    for number, key in enumerate(zip(sizes, kinds, strict=True)):
        alike.setdefault(key, []).append(number)
    found = []
    for (size, _), numbers in alike.items():
        most = max(1, LATENTS // (size[0] * size[1]))
        found += [numbers[first : first + most] for first in range(0, len(numbers), most)]
    return found
