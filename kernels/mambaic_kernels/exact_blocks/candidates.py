"""Colours that a pixel may have by what is known around it, and the decisions about them.

A colour is an integer R << 16 | G << 8 | B, NONE where a pixel is in no exact block.

    NNW NN  NNE
 NWW NW  N  NE NEE
  WW  W  *
"""

from __future__ import annotations

import numpy as np

from mambaic_kernels.exact_blocks.decisions import CONTEXTS, SLOT_BITS, WORD
from mambaic_kernels.simd import exact_jit

NONE = -1
CANDIDATES = 6


@exact_jit(inline="always")
def get(pixels, y, column):  # type: ignore[no-untyped-def]
    return (
        np.int64(pixels[y, column, 0]) << 16
        | np.int64(pixels[y, column, 1]) << 8
        | np.int64(pixels[y, column, 2])
    )


@exact_jit(inline="always")
def put(pixels, y, column, colour):  # type: ignore[no-untyped-def]
    pixels[y, column, 0] = colour >> 16
    pixels[y, column, 1] = (colour >> 8) & 255
    pixels[y, column, 2] = colour & 255


@exact_jit(inline="always")
def mix(key, value):  # type: ignore[no-untyped-def]
    """A 32-bit key of a 32-bit key and a number from NONE on."""
    key = ((key ^ (value + 1)) * 0x2C1B3C6D) & WORD
    return key ^ (key >> 15)


@exact_jit(inline="always")
def slot_of(key):  # type: ignore[no-untyped-def]
    return ((key * 0x297A2D39) & WORD) >> (32 - SLOT_BITS)


@exact_jit(nogil=True)
def fill_keys(row, above, above2, x, keys):  # type: ignore[no-untyped-def]
    """Keys of the neighbours of column x: what a pixel may depend on."""
    w, n, nw, ne = row[x - 1], above[x], above[x - 1], above[x + 1]
    ww, nn = row[x - 2], above2[x]
    nww, nee, nnw, nne = above[x - 2], above[x + 2], above2[x - 1], above2[x + 1]
    both = mix(mix(0, w), n)
    four = mix(mix(both, nw), ne)
    six = mix(mix(four, ww), nn)
    keys[1] = mix(mix(mix(mix(six, nww), nee), nnw), nne)
    keys[2] = four
    keys[3] = both
    keys[4] = mix(mix(mix(1, w), ww), row[x - 3])
    keys[5] = mix(mix(mix(2, n), nn), ne)
    alike = (w == n) | (w == nw) << 1 | (n == ne) << 2 | (n == nw) << 3 | (ww == w) << 4
    alike |= (nn == n) << 5 | (nww == nw) << 6 | (nne == ne) << 7 | (nee == ne) << 8
    keys[6] = mix(3, alike | (ww == nww) << 9)
    keys[7] = six


@exact_jit(nogil=True)
def _confidence(count):  # type: ignore[no-untyped-def]
    return np.int64(count > 0) + np.int64(count > 2) + np.int64(count > 11)


@exact_jit(nogil=True)
def offer(row, above, x, keys, memory, counts, offered):  # type: ignore[no-untyped-def]
    """Fill in the candidates; returns how far both memories are to be trusted."""
    deep, flat = slot_of(keys[1]), slot_of(keys[2])
    offered[0], offered[1] = memory[0, deep], memory[1, flat]
    offered[2], offered[3] = row[x - 1], above[x]
    offered[4], offered[5] = above[x + 1], above[x - 1]
    return _confidence(counts[0, deep]) | _confidence(counts[1, flat]) << 2


@exact_jit(nogil=True)
def is_offered_anew(offered, i):  # type: ignore[no-untyped-def]
    """Whether a candidate is a colour, and none of those before it."""
    known = offered[i] == NONE
    for k in range(i):
        known |= offered[k] == offered[i]
    return not known


@exact_jit(nogil=True)
def ask(row, above2, x, keys, offered, i, tries, trusts, state):  # type: ignore[no-untyped-def]
    """Name the slots of the decision whether the pixel is candidate i; returns its weights."""
    candidate = offered[i]
    alike = np.int64(candidate == row[x - 2]) | np.int64(candidate == above2[x]) << 1
    for k in range(CANDIDATES):
        alike |= np.int64(offered[k] == candidate) << (k + 2)
    state.places[0] = (tries << 12) | (trusts << 8) | alike
    for k in range(1, CONTEXTS):
        other = alike if k == 6 else candidate
        state.places[k] = slot_of(mix(mix(keys[k], other), tries))
    return 4 * tries + (trusts & 3)
