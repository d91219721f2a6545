"""Asymmetric numeral systems: the inner loops of writing and reading symbols.

[Duda2013] arXiv:1311.2540, range variant: a state of 32 to 48 bits, words of 16 bits, frequencies
that sum to 2**16. What is written last is read first, so a writer collects the intervals (start,
size) of all it means to write, and ``write`` goes through them backwards. The table of a symbol may
depend on the symbols before it: see ``mambaic_kernels.tcq.cpu``. Format section: docs/format.md,
"Payload of a tile".

Tables lie one after the other in ``cumulative``: table t has the symbols -radius[t]..radius[t] and
the escape, so 2 radius[t] + 3 sums from ``first[t]`` on. ``rows`` (classes, levels) names the table
of a level in the states of a class (their lowest bits, as many as classes need), and ``code`` is
``mambaic_kernels.tcq.cpu.CODE``.
"""

from __future__ import annotations

import numpy as np

from mambaic_kernels.simd import jit
from mambaic_kernels.tcq.cpu import after

PRECISION = 16
WORD = 16
LOW = 1 << 32  # of the state, between symbols
MASK = (1 << WORD) - 1
HALF = 1 << (PRECISION - 1)
MAX_BITS = 30  # of a number: more is damage
OK, ENDED, TOO_LARGE = 0, 1, 2


@jit(nogil=True)
def write(start, size, check, words):  # type: ignore[no-untyped-def]
    """Write intervals (n,) uint16, the last one first, to ``words`` (n + 3,) uint16 from its end;
    returns the position of the first word. ``check``, a number under 2**32, is what is left over
    LOW in the state when all is read."""
    at = len(words)
    state = LOW + np.int64(check)
    for i in range(len(start) - 1, -1, -1):
        share = np.int64(size[i])
        if state >= share << 32:
            at -= 1
            words[at] = state & MASK
            state >>= WORD
        state = ((state // share) << PRECISION) + state % share + np.int64(start[i])
    for _ in range(3):
        at -= 1
        words[at] = state & MASK
        state >>= WORD
    return at


@jit(nogil=True)
def _number(value, start, size, count):  # type: ignore[no-untyped-def]
    """Append a number >= 0 in Elias's gamma code of value + 1, bit by bit."""
    value += 1
    length = 0
    while value >> (length + 1):
        length += 1
    for i in range(2 * length + 1):
        bit = i >= length and (value >> (2 * length - i)) & 1
        start[count] = HALF if bit else 0
        size[count] = HALF
        count += 1
    return count


@jit(nogil=True)
def symbols(values, levels, rows, first, radius, cumulative, code, state, start, size):  # type: ignore[no-untyped-def]
    """Intervals of symbols (n,) at levels (n,), from a state on; returns how many. A symbol beyond
    its table is the escape, how far beyond, and a bit for its sign."""
    count, mask = 0, len(rows) - 1
    for i in range(len(values)):
        table = rows[state & mask, levels[i]]
        reach = radius[table]
        beyond = abs(values[i]) - reach
        place = first[table] + (2 * reach + 1 if beyond > 0 else values[i] + reach)
        start[count] = cumulative[place]
        size[count] = cumulative[place + 1] - cumulative[place]
        count += 1
        if beyond > 0:
            count = _number(beyond - 1, start, size, count)
            start[count] = HALF if values[i] < 0 else 0
            size[count] = HALF
            count += 1
        state = after(state, values[i], code)
    return count


# Readers keep the position of the next word, ``at``, and the state in variables while they read,
# and indices without a sign, which numba need not count from the end if they are negative: it
# takes half the time.


@jit(inline="always")
def _advance(words, at, state, start, size):  # type: ignore[no-untyped-def]
    state = size * (state >> PRECISION) + (state & MASK) - start
    if state >= LOW:
        return at, state, OK
    if at >= len(words):
        return at, state, ENDED
    return at + 1, (state << WORD) | words[np.uint64(at)], OK


@jit(inline="always")
def _read_bit(words, at, state):  # type: ignore[no-untyped-def]
    bit = 1 if state & HALF else 0
    at, state, status = _advance(words, at, state, bit * HALF, HALF)
    return bit, at, state, status


@jit()
def _read_number(words, at, state):  # type: ignore[no-untyped-def]
    length, bit, status = 0, 0, OK
    while not bit:
        bit, at, state, status = _read_bit(words, at, state)
        if status:
            return 0, at, state, status
        length += not bit
        if length > MAX_BITS:
            return 0, at, state, TOO_LARGE
    value = 1
    for _ in range(length):
        bit, at, state, status = _read_bit(words, at, state)
        if status:
            return 0, at, state, status
        value = 2 * value + bit
    return value - 1, at, state, OK


# a cursor (2,) int64: the position of the next word, and the state


@jit(nogil=True)
def read_bits(words, cursor, out):  # type: ignore[no-untyped-def]
    at, state = cursor
    for i in range(len(out)):
        out[i], at, state, status = _read_bit(words, at, state)
        if status:
            return status
    cursor[0], cursor[1] = at, state
    return OK


@jit(inline="always")
def _place(cumulative, first, reach, wanted):  # type: ignore[no-untyped-def]
    """Where the interval begins that ``wanted`` lies in, of a table that begins at ``first``: from
    the symbol 0 outwards in steps that double, as nearly all symbols are small."""
    low, step = np.uint64(first + reach), np.uint64(1)
    if cumulative[low] <= wanted:
        end = np.uint64(first + 2 * reach + 2)
        high = low + step
        while high < end and cumulative[high] <= wanted:
            low = high
            high += step
            step += step
        high = min(high, end)
    else:
        high, low = low, low - step
        while low > np.uint64(first) and cumulative[low] > wanted:
            high = low
            low = max(low, np.uint64(first) + step) - step
            step += step
    while high - low > np.uint64(1):
        middle = (low + high) >> np.uint64(1)
        if cumulative[middle] <= wanted:
            low = middle
        else:
            high = middle
    return low


@jit(nogil=True)
def read_symbols(words, cursor, levels, rows, first, radius, cumulative, code, path, largest, out):  # type: ignore[no-untyped-def]
    """The inverse of ``symbols``, on a ``path`` from that state on, into ``out`` (n,) int32."""
    mask = len(rows) - 1
    at, state = cursor
    for i in range(len(levels)):
        table = np.uint64(rows[np.uint64(path & mask), np.uint64(levels[i])])
        reach = np.int64(radius[table])
        low = _place(cumulative, first[table], reach, state & MASK)
        start = np.int64(cumulative[low])
        size = cumulative[low + np.uint64(1)] - start
        at, state, status = _advance(words, at, state, start, size)
        if status:
            return status
        value = np.int64(low) - first[table] - reach
        if value > reach:
            beyond, at, state, status = _read_number(words, at, state)
            if status:
                return status
            value += beyond
            if value > largest:
                return TOO_LARGE
            negative, at, state, status = _read_bit(words, at, state)
            if status:
                return status
            value = -value if negative else value
        out[i] = value
        path = after(path, value, code)
    cursor[0], cursor[1] = at, state
    return OK
