"""A quick look at the blocks of a picture: which ones are worth the time of coding them exactly."""

from __future__ import annotations

import numpy as np

from mambaic_kernels.exact_blocks.walk import SIDE
from mambaic_kernels.simd import exact_jit

SHARP, SOFT = 48, 24  # levels between neighbours, of red, green and blue together


@exact_jit(inline="always")
def _difference(pixels, y, x, other_y, other_x):  # type: ignore[no-untyped-def]
    total = np.int64(0)
    for plane in range(3):
        total += abs(np.int64(pixels[y, x, plane]) - np.int64(pixels[other_y, other_x, plane]))
    return total


@exact_jit(nogil=True)
def survey(pixels, repeated, sharp, soft):  # type: ignore[no-untyped-def]
    """Of pixels (H, W, 3) uint8, count in each block (rows, columns) those ``repeated`` that one of
    their neighbours W, NW, N, NE equals, the ``sharp`` edges to the neighbours W and N, and those
    that differ from all four but little from W or N, as those of photographs do: ``soft``."""
    height, width = pixels.shape[:2]
    for y in range(1, height):
        for block in range(repeated.shape[1]):
            same, edges, near = 0, 0, 0
            for x in range(max(1, block * SIDE), min((block + 1) * SIDE, width - 1)):
                west = _difference(pixels, y, x, y, x - 1)
                north = _difference(pixels, y, x, y - 1, x)
                repeats = (
                    west == 0
                    or north == 0
                    or _difference(pixels, y, x, y - 1, x - 1) == 0
                    or _difference(pixels, y, x, y - 1, x + 1) == 0
                )
                same += repeats
                near += not repeats and min(west, north) <= SOFT
                edges += (west >= SHARP) + (north >= SHARP)
            repeated[y // SIDE, block] += same
            sharp[y // SIDE, block] += edges
            soft[y // SIDE, block] += near
