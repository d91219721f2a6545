"""What coefficients of three planes cost in rotated colours, by numba."""

from __future__ import annotations

import numpy as np

from mambaic_kernels.simd import jit

LANES, ROUNDS = 64, 8  # of coefficients whose factors are multiplied before a logarithm is taken


@jit(nogil=True)
def rotation_cost(planes, kept, matrix, scale):  # type: ignore[no-untyped-def]
    """(nats, squared error) of ``matrix`` (3, 3) float32 @ planes (3, n) float32: log(1 + scale *
    size) of each that is ``kept`` (3, n) float32, 1 or 0; the squares of the others. A logarithm of
    24 factors is taken at once, each at most 2**40."""
    count = planes.shape[1]
    factors, errors = np.empty(LANES, np.float64), np.zeros(LANES, np.float32)
    nats, error = 0.0, 0.0
    for start in range(0, count, LANES * ROUNDS):
        factors[:] = 1.0
        errors[:] = np.float32(0)
        for first in range(start, min(start + LANES * ROUNDS, count), LANES):
            last = min(first + LANES, count)
            a, b, c = planes[0, first:last], planes[1, first:last], planes[2, first:last]
            for p in range(3):
                of_plane = kept[p, first:last]
                x, y, z = matrix[p, 0], matrix[p, 1], matrix[p, 2]
                for i in range(last - first):
                    rotated = x * a[i] + y * b[i] + z * c[i]
                    factors[i] *= np.float32(1) + of_plane[i] * abs(rotated) * scale
                    errors[i] += (np.float32(1) - of_plane[i]) * rotated * rotated
        for i in range(LANES):
            nats += np.log(factors[i])
            error += errors[i]
    return nats, error
