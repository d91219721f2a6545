"""What an encoder makes of the pixels of exact blocks where colours may be off a little.

Smooth edges are full of colours that no neighbour has; written out they are most of an exact
block's bits. Nearly the same colour often costs a tenth.
"""

from __future__ import annotations

import numpy as np

from mambaic_kernels.exact_blocks.candidates import CANDIDATES, ask, get, is_offered_anew
from mambaic_kernels.exact_blocks.decisions import bits_of, foresee
from mambaic_kernels.simd import exact_jit

CAUTION = 2.0  # what an error weighs more than by itself: pixels that follow take it over


@exact_jit(nogil=True)
def is_rare(pixels, y, column):  # type: ignore[no-untyped-def]
    """Whether at most one of the eight pixels around has the same colour."""
    colour, equal = get(pixels, y, column), 0
    for i in range(max(0, y - 1), min(y + 2, pixels.shape[0])):
        for j in range(max(0, column - 1), min(column + 2, pixels.shape[1])):
            equal += get(pixels, i, j) == colour
    return equal <= 2


@exact_jit(inline="always")
def squared_error(colour, other):  # type: ignore[no-untyped-def]
    total = 0
    for shift in range(0, 24, 8):
        difference = ((colour >> shift) & 255) - ((other >> shift) & 255)
        total += difference * difference
    return total


@exact_jit(inline="always")
def _rounded(colour, step):  # type: ignore[no-untyped-def]
    """A colour whose samples are the nearest multiples of a step."""
    found = 0
    for shift in range(0, 24, 8):
        level = (((colour >> shift) & 255) + step // 2) // step * step
        found |= min(level, 255) << shift
    return found


@exact_jit(nogil=True)
def settle(row, above2, x, colour, keys, offered, trusts, state, step, worth):  # type: ignore[no-untyped-def]
    """Of the candidates and the ``_rounded`` colour the one that costs least for a colour.
    ``worth``: bits of a colour that is written out, and of the square of a level of a sample."""
    literal, weight = worth
    missed, tries = 0.0, 0
    rounded = _rounded(colour, step)
    best, least = rounded, np.inf
    for i in range(CANDIDATES):
        if not is_offered_anew(offered, i):
            continue
        chosen = ask(row, above2, x, keys, offered, i, tries, trusts, state)
        chance = foresee(state, chosen)
        cost = missed + bits_of(1, chance) + weight * squared_error(colour, offered[i])
        if cost < least:
            best, least = offered[i], cost
        missed += bits_of(0, chance)
        tries += 1
    if missed + literal + weight * squared_error(colour, rounded) < least:
        best = rounded
    return best
