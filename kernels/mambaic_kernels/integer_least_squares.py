"""Whole numbers x of little ``x @ gram @ x - 2 cross @ x`` and bits, one number at a time.

A number takes the bits that a table says of its size; one of at least the table's last size takes
Elias's gamma code of how much larger it is, too. In float64, by numba.
"""

from __future__ import annotations

import numpy as np

from mambaic_kernels.simd import exact_jit

LARGEST = 1 << 20


@exact_jit()
def bits_of(number, short):  # type: ignore[no-untyped-def]
    """Of a whole number; ``short`` by its size."""
    size, last = abs(number), len(short) - 1
    if size < last:
        return short[size]
    digits, more = 0, np.int64(size - last + 1)
    while more >> (digits + 1):
        digits += 1
    return short[last] + 2 * digits + 1


@exact_jit()
def _best(target, bend, short, now):  # type: ignore[no-untyped-def]
    """The number with the least ``bend * (number - target)**2`` and bits."""
    low = np.int64(np.floor(max(-LARGEST, min(LARGEST - 1.0, target))))
    found, least = np.int64(0), bend * target * target + bits_of(np.int64(0), short)
    for number in (low, low + 1, np.int64(now)):
        cost = bend * (number - target) ** 2 + bits_of(number, short)
        if cost < least:
            found, least = number, cost
    return found


@exact_jit(nogil=True)
def round_in_turn(inverse, mean, order, short, numbers):  # type: ignore[no-untyped-def]
    """Numbers (n,) float64 near the ``mean`` of a Gaussian with the covariance ``inverse``, both
    overwritten: rounded in ``order``, while the others make up for what each leaves. ``short``
    (n, sizes)."""
    count = len(mean)
    row = np.empty(count)
    for j in order:
        free, target = inverse[j, j], mean[j]
        numbers[j] = _best(target, 1 / free, short[j], 0)
        row[:] = inverse[j]
        for i in range(count):
            of_row = row[i] / free
            mean[i] += of_row * (numbers[j] - target)
            for k in range(count):
                inverse[i, k] -= of_row * row[k]


@exact_jit(nogil=True)
def move_in_turn(gram, cross, short, numbers, sweeps):  # type: ignore[no-untyped-def]
    """Each of ``numbers`` to where it is best while the others stay, until none moves, in so many
    ``sweeps`` at most. Returns the cost in all."""
    count = len(numbers)
    slope = -cross
    for j in range(count):
        for k in range(count):
            slope[j] += gram[j, k] * numbers[k]
    for _ in range(sweeps):
        moved = False
        for j in range(count):
            now, bend = numbers[j], gram[j, j] + 1e-9
            best = _best(now - slope[j] / bend, bend, short[j], now)
            if best != now:
                for k in range(count):
                    slope[k] += gram[j, k] * (best - now)
                numbers[j] = best
                moved = True
        if not moved:
            break
    cost = 0.0
    for j in range(count):
        cost += numbers[j] * (slope[j] - cross[j]) + bits_of(np.int64(numbers[j]), short[j])
    return cost
