"""Pixels of exact blocks, in the one order in which they are written and read.

First which blocks are exact, then their pixels, row by row of the picture. Of a pixel it is decided
whether it is one of a few candidates: the colours that followed the same neighbours before, and its
neighbours. If it is none of them, its green, red and blue follow bit by bit.
"""

from __future__ import annotations

import numpy as np

from mambaic_kernels.exact_blocks.candidates import (
    CANDIDATES,
    NONE,
    ask,
    fill_keys,
    get,
    is_offered_anew,
    mix,
    offer,
    put,
    slot_of,
)
from mambaic_kernels.exact_blocks.decisions import CONTEXTS, READ, SETTLE, SLOT_BITS, decide
from mambaic_kernels.exact_blocks.settling import CAUTION, is_rare, settle, squared_error
from mambaic_kernels.simd import exact_jit

SIDE = 32  # of a block
SLOTS = 1 << SLOT_BITS
AROUND = 3  # columns beyond the picture's sides
LITERAL_SETS, MASK_SET = 24, 48  # of weights; those of candidates come first
# bits that a colour written out is expected to take, and how fast that follows what they do take
FIRST_LITERAL, LITERAL_RATE = 12.0, 1 / 16


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
def _candidates(row, above2, x, colour, keys, offered, trusts, state, mode):  # type: ignore[no-untyped-def]
    """The colour if it is one of the candidates, else NONE."""
    tries = 0
    for i in range(CANDIDATES):
        if not is_offered_anew(offered, i):
            continue
        chosen = ask(row, above2, x, keys, offered, i, tries, trusts, state)
        if decide(state, np.int64(offered[i] == colour), chosen, mode):
            return offered[i]
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
            state.places[1] = slot_of(mix(mix(4, coded), at))
            state.places[2] = slot_of(mix(mix(mix(5, w), coded), at))
            state.places[3] = slot_of(mix(mix(mix(6, n), coded), at))
            state.places[4] = slot_of(mix(mix(keys[3], coded), at))
            state.places[5] = slot_of(mix(mix(7, slope), at))
            state.places[6] = slot_of(mix(mix(8, (west << 8) | north), at))
            state.places[7] = slot_of(mix(mix(9, mean), at))
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
def walk(pixels, settled, step, weight, height, width, mask, memory, counts, costs, state, mode):  # type: ignore[no-untyped-def]
    """Write, read, count or settle the exact blocks of pixels (H, W, 3) uint8; an empty array is
    not read to. ``mask`` (rows, columns) of blocks is read to, ``costs`` alike gets their bits.

    SETTLE writes to ``settled`` (H, W, 3) what rare pixels should rather be: candidates, or
    multiples of ``step``, where that pays at ``weight`` bits for the square of a level of a sample,
    which ``costs`` gets too.
    """
    _mask(mask, state, mode)
    rows = np.full((3, width + 2 * AROUND), NONE, np.int64)
    keys, offered = np.zeros(CONTEXTS, np.int64), np.zeros(CANDIDATES, np.int64)
    literal = FIRST_LITERAL
    for y in range(height):
        row, above, above2 = rows[y % 3], rows[(y + 2) % 3], rows[(y + 1) % 3]
        row[:] = NONE
        for block in range(mask.shape[1]):
            if not mask[y // SIDE, block]:
                continue
            before, error = state.bits[0], np.int64(0)
            for column in range(block * SIDE, min((block + 1) * SIDE, width)):
                x = column + AROUND
                colour = np.int64(0)
                if mode != READ:
                    colour = get(pixels, y, column)
                fill_keys(row, above, above2, x, keys)
                trusts = offer(row, above, x, keys, memory, counts, offered)
                if mode == SETTLE and is_rare(pixels, y, column):
                    wanted = colour
                    worth = literal, CAUTION * weight
                    colour = settle(
                        row, above2, x, wanted, keys, offered, trusts, state, step, worth
                    )
                    error += squared_error(wanted, colour)
                    put(settled, y, column, colour)
                found = _candidates(row, above2, x, colour, keys, offered, trusts, state, mode)
                if found == NONE:
                    start = state.bits[0]
                    found = _literal(row, above, x, colour, keys, state, mode)
                    literal += (state.bits[0] - start - literal) * LITERAL_RATE
                row[x] = found
                _remember(memory, counts, 0, slot_of(keys[1]), found)
                _remember(memory, counts, 1, slot_of(keys[2]), found)
                if mode == READ and len(pixels):
                    put(pixels, y, column, found)
            costs[y // SIDE, block] += state.bits[0] - before + weight * error
