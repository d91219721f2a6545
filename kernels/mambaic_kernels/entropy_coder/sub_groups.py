"""What the numbers of a sub-group become on both sides of the entropy coder: scale indices, places
among the tables, contexts of symbols, values. In coding order: channel, then position.

Floating-point operations are single ones of IEEE, as they decide what a decoder reads.
"""

from __future__ import annotations

import numpy as np

from mambaic_kernels.simd import exact_jit, f32
from mambaic_kernels.tcq.cpu import CLASSES, after


@exact_jit(nogil=True)
def scale_indices(rows, low, step, last, out):  # type: ignore[no-untyped-def]
    """Indices (C, n) int64, of which one is ``step`` of log-scales (n, C) float32 from ``low`` on,
    at most ``last``."""
    count, channels = rows.shape
    for c in range(channels):
        for i in range(count):
            at = (np.float64(rows[i, c]) - low) / step + 0.5
            out[c, i] = np.int64(min(max(at, 0.0), last))


@exact_jit(nogil=True)
def coded(indices, skip, range_of, rows_of_range, positions, places):  # type: ignore[no-untyped-def]
    """Where indices (n,) reach ``skip``, and the places of their tables among those of a class:
    ``rows_of_range`` of them for every range of the next such index. Returns how many."""
    count = 0
    for i in range(len(indices)):
        if indices[i] >= skip:
            if count:
                before = positions[count - 1]
                places[count - 1] = rows_of_range * range_of[indices[i]] + indices[before]
            positions[count] = i
            count += 1
    if count:
        own = indices[positions[count - 1]]
        places[count - 1] = rows_of_range * range_of[own] + own
    return count


@exact_jit(nogil=True)
def contexts(symbols, indices, skip, range_of, first, ranges, state, code, out):  # type: ignore[no-untyped-def]
    """Table contexts (n,) of symbols (n,) on a path from ``state`` on, ``first`` where the index is
    under ``skip``: a class has ``ranges`` of them. Returns the state after them."""
    last = -1  # the coded latent whose range is not known yet
    for i in range(len(symbols)):
        out[i] = first
        if indices[i] >= skip:
            if last >= 0:
                out[last] += range_of[indices[i]]
            out[i] += ranges * (state & (CLASSES - 1))
            state = after(state, symbols[i], code)
            last = i
    if last >= 0:
        out[last] += range_of[indices[last]]
    return state


@exact_jit(nogil=True)
def values(symbols, contexts, spacings, shifts, out):  # type: ignore[no-untyped-def]
    """Values (n,) float32 of symbols in contexts: symbol times spacing, nearer to 0 by a shift."""
    for i in range(len(symbols)):
        value = f32(symbols[i]) * spacings[contexts[i]]
        shift = shifts[contexts[i]]
        if symbols[i] > 0:
            value -= shift
        elif symbols[i] < 0:
            value += shift
        out[i] = value
