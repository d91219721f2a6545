"""Taps of the post-filter: maps of a reconstruction that it adds multiples of, plane by plane.

A tap is a map of one plane times a factor: where a filter pays depends on how far a pixel may be
off, and on the brightness. Each was taken for its gain on training pictures
(docs/design/filter.md). Format section: docs/format.md, "Filter".
"""

from __future__ import annotations

from typing import NamedTuple

from mambaic_kernels.filter_maps.constants import FACTORS, MAPS

NO_TAP = "."
# Half octaves that coefficients of each factor are larger than those of its map alone
UNITS = dict(zip(FACTORS, (0, 3, 1), strict=True))
# Map, its plane, the size of its coefficients in half octaves; and of the taps of p0, of p1 and of
# p2, by each of FACTORS, the spread of their numbers in half octaves
TABLE = (
    ("next", 0, -9, ".8. .3. .1."),
    ("next", 1, -4, "... 7.. ..."),
    ("second", 0, -11, ".96 5.4 442"),
    ("second", 1, -6, "... 76. ..."),
    ("second", 2, -4, "... ... 4.."),
    ("next, clipped", 0, -7, "883 ..2 ..."),
    ("next, clipped", 1, -3, "..1 54. ..."),
    ("next, clipped", 2, -1, "... ... 4.."),
    ("second, clipped", 0, -9, "874 ..2 ..."),
    ("second, clipped", 1, -5, ".0. 5.2 2.2"),
    ("diagonal, clipped", 0, -8, "874 .2. ..1"),
    ("diagonal, clipped", 1, -4, "... 4.. ..."),
    ("diagonal, clipped", 2, -3, "... 2.. ..."),
    ("similar", 0, 0, "654 ..0 ..."),
    ("similar", 1, 1, "1.. 452 ..."),
    ("similar", 2, 2, "... ... 44."),
    ("similar, wide", 0, -4, "663 444 433"),
    ("similar, wide", 1, -1, "31. 554 320"),
    ("similar, wide", 2, 0, "1.. .1. 542"),
    ("across", 0, -8, "776 ... ..."),
    ("across", 1, -3, "... 4.. ..."),
    ("across", 2, -1, "... ... 1.."),
    ("value", 0, -15, "..3 .1. 544"),
    ("value", 1, -12, "... ... 666"),
    ("value", 2, -9, "... ... .6."),
)


class Tap(NamedTuple):
    """Map ``map`` of plane ``plane`` times factor ``factor``. ``unit`` and ``spread``: by how much
    one more of its number changes the coefficient, and how large numbers are to be expected, at the
    coarsest fineness, in half octaves."""

    map: int
    plane: int
    factor: int
    unit: int
    spread: int


def _of_plane(own: int) -> tuple[Tap, ...]:
    return tuple(
        Tap(MAPS.index(name), plane, factor, unit + UNITS[FACTORS[factor]], int(digit))
        for name, plane, unit, spreads in TABLE
        for factor, digit in enumerate(spreads.split()[own])
        if digit != NO_TAP
    )


TAPS = tuple(map(_of_plane, range(3)))
