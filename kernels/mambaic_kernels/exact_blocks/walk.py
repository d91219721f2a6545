"""Pixels of exact blocks, in the one order in which they are written and read.

First which blocks are exact, then their pixels, row by row of the picture. Of a pixel it is decided
whether it is one of a few candidates: the colours that followed the same neighbours before, and its
neighbours. If it is none of them, its green, red and blue follow bit by bit. Colours are integers
R << 16 | G << 8 | B, NONE where a neighbour is not in an exact block.

    NNW NN  NNE
 NWW NW  N  NE NEE
  WW  W  *
"""

from __future__ import annotations

import numpy as np

from mambaic_kernels.exact_blocks.decisions import CONTEXTS, READ, SLOT_BITS, WORD, decide
from mambaic_kernels.simd import exact_jit

SIDE = 32  # of a block
SLOTS = 1 << SLOT_BITS
NONE = -1
AROUND = 3  # columns beyond the picture's sides
CANDIDATES = 6
LITERAL_SETS, MASK_SET = 24, 48  # of weights; those of candidates come first


@exact_jit(inline="always")
def _mix(key, value):  # type: ignore[no-untyped-def]
    """A 32-bit key of a 32-bit key and a number from NONE on."""
    key = ((key ^ (value + 1)) * 0x2C1B3C6D) & WORD
    return key ^ (key >> 15)


@exact_jit(inline="always")
def _slot(key):  # type: ignore[no-untyped-def]
    return ((key * 0x297A2D39) & WORD) >> (32 - SLOT_BITS)


@exact_jit(nogil=True)
def _mask(mask, state, mode):  # type: ignore[no-untyped-def]
    """Which blocks are exact, (rows, columns) of 0 or 1."""
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            around = mask[i, j - 1] if j else 0
            if i:
                around |= mask[i - 1, j] << 1
                around |= (mask[i - 1, j - 1] if j else 0) << 2
                around |= (mask[i - 1, j + 1] if j + 1 < mask.shape[1] else 0) << 3
            for k in range(CONTEXTS):
                state.places[k] = around & ((1 << min(k, 4)) - 1)
            mask[i, j] = decide(state, np.int64(mask[i, j]), MASK_SET, mode)


@exact_jit(nogil=True)
def _keys(row, above, above2, x, keys):  # type: ignore[no-untyped-def]
    """Keys of the neighbours of column x: what a pixel may depend on."""
    w, n, nw, ne = row[x - 1], above[x], above[x - 1], above[x + 1]
    ww, nn = row[x - 2], above2[x]
    nww, nee, nnw, nne = above[x - 2], above[x + 2], above2[x - 1], above2[x + 1]
    both = _mix(_mix(0, w), n)
    four = _mix(_mix(both, nw), ne)
    six = _mix(_mix(four, ww), nn)
    keys[1] = _mix(_mix(_mix(_mix(six, nww), nee), nnw), nne)
    keys[2] = four
    keys[3] = both
    keys[4] = _mix(_mix(_mix(1, w), ww), row[x - 3])
    keys[5] = _mix(_mix(_mix(2, n), nn), ne)
    alike = (w == n) | (w == nw) << 1 | (n == ne) << 2 | (n == nw) << 3 | (ww == w) << 4
    alike |= (nn == n) << 5 | (nww == nw) << 6 | (nne == ne) << 7 | (nee == ne) << 8
    keys[6] = _mix(3, alike | (ww == nww) << 9)
    keys[7] = six


@exact_jit(nogil=True)
def _confidence(count):  # type: ignore[no-untyped-def]
    return np.int64(count > 0) + np.int64(count > 2) + np.int64(count > 11)


@exact_jit(nogil=True)
def _candidates(row, above, above2, x, colour, keys, memory, counts, offered, state, mode):  # type: ignore[no-untyped-def]
    """The colour if it is one of the candidates, else NONE."""
    deep, flat = _slot(keys[1]), _slot(keys[2])
    offered[0], offered[1] = memory[0, deep], memory[1, flat]
    offered[2], offered[3] = row[x - 1], above[x]
    offered[4], offered[5] = above[x + 1], above[x - 1]
    trust = _confidence(counts[0, deep])
    trusts = trust | _confidence(counts[1, flat]) << 2
    tries = 0
    for i in range(CANDIDATES):
        candidate = offered[i]
        known = candidate == NONE
        for k in range(i):
            known |= offered[k] == candidate
        if known:
            continue
        alike = np.int64(candidate == row[x - 2]) | np.int64(candidate == above2[x]) << 1
        for k in range(CANDIDATES):
            alike |= np.int64(offered[k] == candidate) << (k + 2)
        state.places[0] = (tries << 12) | (trusts << 8) | alike
        for k in range(1, CONTEXTS):
            other = alike if k == 6 else candidate
            state.places[k] = _slot(_mix(_mix(keys[k], other), tries))
        if decide(state, np.int64(candidate == colour), 4 * tries + trust, mode):
            return candidate
        tries += 1
    return NONE


@exact_jit(inline="always")
def _plane(colour, shift):  # type: ignore[no-untyped-def]
    return 128 if colour == NONE else (colour >> shift) & 255


@exact_jit(nogil=True)
def _literal(row, above, x, colour, keys, state, mode):  # type: ignore[no-untyped-def]
    """A colour, bit by bit."""
    w, n, nw = row[x - 1], above[x], above[x - 1]
    coded, found, moved = 0, 0, 0
    for plane in range(3):
        shift = 8 if plane == 0 else (16 if plane == 1 else 0)
        west, north, corner = _plane(w, shift), _plane(n, shift), _plane(nw, shift)
        slope = min(max(west + north - corner + moved, 0), 255)
        mean = min(max(((west + north) >> 1) + moved, 0), 255)
        node = 1
        for bit in range(8):
            at = (plane << 8) | node
            state.places[0] = (1 << 15) | at
            state.places[1] = _slot(_mix(_mix(4, coded), at))
            state.places[2] = _slot(_mix(_mix(_mix(5, w), coded), at))
            state.places[3] = _slot(_mix(_mix(_mix(6, n), coded), at))
            state.places[4] = _slot(_mix(_mix(keys[3], coded), at))
            state.places[5] = _slot(_mix(_mix(7, slope), at))
            state.places[6] = _slot(_mix(_mix(8, (west << 8) | north), at))
            state.places[7] = _slot(_mix(_mix(9, mean), at))
            wanted = (colour >> (shift + 7 - bit)) & 1
            node = 2 * node + decide(state, wanted, LITERAL_SETS + 8 * plane + bit, mode)
        value = node & 255
        found |= value << shift
        coded = ((coded & 255) << 8) | value | (1 << 24)
        if plane == 0:
            moved = value - slope
    return found


@exact_jit(nogil=True)
def _remember(memory, counts, which, slot, colour):  # type: ignore[no-untyped-def]
    if memory[which, slot] == colour:
        counts[which, slot] = min(counts[which, slot] + 1, 255)
    elif counts[which, slot] > 1:
        counts[which, slot] >>= 1
    else:
        memory[which, slot] = colour
        counts[which, slot] = 1


@exact_jit(nogil=True)
def walk(pixels, height, width, mask, memory, counts, costs, state, mode):  # type: ignore[no-untyped-def]
    """Write, read or count the exact blocks of pixels (H, W, 3) uint8; an empty array is not read
    to. ``mask`` (rows, columns) of blocks is read to, ``costs`` alike gets their bits."""
    _mask(mask, state, mode)
    rows = np.full((3, width + 2 * AROUND), NONE, np.int64)
    keys, offered = np.zeros(CONTEXTS, np.int64), np.zeros(CANDIDATES, np.int64)
    for y in range(height):
        row, above, above2 = rows[y % 3], rows[(y + 2) % 3], rows[(y + 1) % 3]
        row[:] = NONE
        for block in range(mask.shape[1]):
            if not mask[y // SIDE, block]:
                continue
            before = state.bits[0]
            for column in range(block * SIDE, min((block + 1) * SIDE, width)):
                x = column + AROUND
                colour = np.int64(0)
                if mode != READ:
                    colour = (
                        np.int64(pixels[y, column, 0]) << 16
                        | np.int64(pixels[y, column, 1]) << 8
                        | np.int64(pixels[y, column, 2])
                    )
                _keys(row, above, above2, x, keys)
                found = _candidates(
                    row, above, above2, x, colour, keys, memory, counts, offered, state, mode
                )
                if found == NONE:
                    found = _literal(row, above, x, colour, keys, state, mode)
                row[x] = found
                _remember(memory, counts, 0, _slot(keys[1]), found)
                _remember(memory, counts, 1, _slot(keys[2]), found)
                if mode == READ and len(pixels):
                    pixels[y, column, 0] = found >> 16
                    pixels[y, column, 1] = (found >> 8) & 255
                    pixels[y, column, 2] = found & 255
            costs[y // SIDE, block] += state.bits[0] - before
