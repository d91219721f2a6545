"""Which maps there are, in their order, and the constants that define them."""

from __future__ import annotations

import math

NEXT, SECOND = ((0, 1), (1, 0), (0, -1), (-1, 0)), ((0, 2), (2, 0), (0, -2), (-2, 0))
DIAGONAL = ((1, 1), (1, -1), (-1, -1), (-1, 1))
CLIP = 2.0  # deviations that a clipped difference is at most
RADII, AROUND = (1.4, 2, 3, 4, 6, 8, 11, 14, 18, 23, 29), 12  # rings of similar pixels, of so many
WIDTH_SHARES, LEAST_WIDTH = (0.5, 2.0), 0.003  # differences of similar pixels, by the deviation
EDGE, AVERAGED = 2, 3  # pixels to each side that directions, contrast and brightness are means over
LEAST_GRADIENT, LEAST_CONTRAST = 1e-6, 1e-3
MARGIN = 29  # pixels to each side that maps depend on

MAPS = (
    *("next", "second", "next, clipped", "second, clipped", "diagonal, clipped"),
    *("similar", "similar, wide", "across", "value"),
)
FACTORS = ("1", "R", "M")


def _rings() -> tuple[tuple[int, int], ...]:
    points = set()
    for ring, radius in enumerate(RADII):
        for step in range(AROUND):
            angle = math.pi * (2 * step + ring % 2) / AROUND
            points.add((round(radius * math.sin(angle)), round(radius * math.cos(angle))))
    return tuple(sorted(points))


RINGS = _rings()  # rows, columns
