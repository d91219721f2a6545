"""Code of the post-filter's coefficients: an integer for every tap, by its probabilities.

How large a coefficient is to be expected stands in the table of taps, as its ``spread``. Format
section: docs/format.md, "Filter".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mambaic.coding.binary_arithmetic import HALF, ONE, Decisions, Reader, Writer
from mambaic.errors import CorruptStream
from mambaic.reconstruction.filter_taps import TAPS, Tap

FINENESS_BITS = 4
FINENESSES = 1 << FINENESS_BITS
LONG = 8  # numbers of this size are followed by how much larger they are
MAX_DIGITS = 20  # of that
# Of 65536, by spread and fineness: that a number is 0, and that one not 0 ends at each size.
# Counted in filters of photographs.
ZERO = (
    *(65339, 65339, 65339, 65048, 63723, 60349, 54078, 45636, 37096, 30084),
    *(25009, 21558, 19242, 17617, 16316, 15036, 13537, 11666, 9400, 6898),
    *(4479, 2502, 1172, 655, 655),
)
LAST = (
    *(65339, 65339, 65247, 64962, 64408, 63362, 61469, 58246, 53223, 46273),
    *(37961, 29461, 21945, 16026, 11727, 8756, 6567, 4925, 3694, 2770),
    *(2078, 1558, 1168, 876, 657),
)


class CodedFilter(NamedTuple):
    """Integers of every plane, one per tap, and their common fineness."""

    fineness: int
    numbers: tuple[tuple[int, ...], ...]

    @property
    def coefficients(self) -> tuple[tuple[float, ...], ...]:
        """Of the taps of every plane."""
        found = []
        for taps, numbers in zip(TAPS, self.numbers, strict=False):
            pairs = zip(taps, numbers, strict=True)
            found.append(tuple(number * step(tap, self.fineness) for tap, number in pairs))
        return tuple(found)


def step(tap: Tap, fineness: int) -> float:
    """What one more of its number adds to the coefficient of a tap."""
    return 2.0 ** ((tap.unit - fineness) / 2)


def chances(tap: Tap, fineness: int) -> tuple[int, int]:
    """Its ``ZERO`` and ``LAST``."""
    return ZERO[tap.spread + fineness], LAST[tap.spread + fineness]


def to_bytes(coded: CodedFilter) -> bytes:
    """As a file keeps it; ``from_bytes`` is the inverse."""
    writer = Writer()
    _walk(writer, coded)
    return writer.to_bytes()


def from_bytes(data: bytes, planes: int) -> CodedFilter:
    """Raises CorruptStream."""
    nothing = tuple((0,) * len(taps) for taps in TAPS[:planes])
    coded = _walk(Reader(data), CodedFilter(0, nothing))
    if to_bytes(coded) != data:
        raise CorruptStream("the filter is not as an encoder writes one: the data is damaged")
    return coded


def _walk(decisions: Decisions, coded: CodedFilter) -> CodedFilter:
    fineness = _binary(decisions, coded.fineness, FINENESS_BITS)
    rows = []
    for taps, numbers in zip(TAPS, coded.numbers, strict=False):
        pairs = zip(taps, numbers, strict=True)
        rows.append(tuple(_number(decisions, *chances(tap, fineness), n) for tap, n in pairs))
    return CodedFilter(fineness, tuple(rows))


def _binary(decisions: Decisions, value: int, digits: int) -> int:
    found = 0
    for place in reversed(range(digits)):
        found = 2 * found + decisions.code(HALF, bool(value >> place & 1))
    return found


def _number(decisions: Decisions, zero: int, last: int, value: int) -> int:
    if not decisions.code(zero, value != 0):
        return 0
    negative = decisions.code(HALF, value < 0)
    size, given = 1, abs(value)
    while size < LONG and decisions.code(last, given > size):
        size += 1
    if size == LONG:  # Elias's gamma code of what is left, from 1
        more, digits = given - LONG + 1, 0
        while decisions.code(HALF, more >> digits + 1 > 0):
            digits += 1
            if digits > MAX_DIGITS:
                raise CorruptStream("the filter has a number that is too long: the data is damaged")
        size += (1 << digits) + _binary(decisions, more, digits) - 1
    return -size if negative else size


def rates(zero: int, last: int) -> NDArray[np.float64]:
    """Bits that numbers take, by their size up to LONG: more than that by the code of what is
    left (``mambaic_kernels.integer_least_squares``)."""
    end, more = np.log2(ONE / last), np.log2(ONE / (ONE - last))
    sizes = 1 + np.log2(ONE / (ONE - zero)) + more * np.arange(LONG)
    sizes[:-1] += end
    return np.append(np.log2(ONE / zero), sizes)
