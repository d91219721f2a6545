"""Arithmetic coding of a few binary decisions, exact in integers of any length.

[Rissanen1979] doi:10.1147/rd.232.0149. The coder of symbols (``mambaic_kernels.entropy_coder``)
spends up to six bytes on its state; this one ends within a byte of the information of its
decisions, and takes time by the square of their count. Format section: docs/format.md, "Filter".
"""

from __future__ import annotations

from typing import Protocol

BITS = 16  # of a probability
ONE = 1 << BITS
HALF = ONE // 2


class Decisions(Protocol):
    """Writes decisions, or reads them and ignores what it is given: so one walk does both."""

    def code(self, no: int, yes: bool) -> bool:
        """The next decision; ``no`` of 65536 is the probability that it is False."""


class Writer:
    """The inverse of ``Reader``."""

    def __init__(self) -> None:
        self._low, self._width, self._bits = 0, 1, 0  # an interval, in units of 2**-bits

    def code(self, no: int, yes: bool) -> bool:
        self._low = (self._low << BITS) + (self._width * no if yes else 0)
        self._width *= ONE - no if yes else no
        self._bits += BITS
        return yes

    def to_bytes(self) -> bytes:
        """The shortest string of bytes that lies in the interval as a binary fraction."""
        length = 0
        while True:
            unit = 1 << max(0, self._bits - 8 * length)
            number = -(-self._low // unit)
            if number * unit < self._low + self._width:
                return (number << max(0, 8 * length - self._bits)).to_bytes(length, "big")
            length += 1


class Reader:
    """Decisions from the front of ``data``; behind its end it reads zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset, self._width, self._position = 0, 1, 0

    def code(self, no: int, yes: bool = False) -> bool:
        piece = self._data[self._position : self._position + BITS // 8].ljust(BITS // 8, b"\0")
        self._position += BITS // 8
        self._offset = (self._offset << BITS) + int.from_bytes(piece, "big")
        found = self._offset >= self._width * no
        if found:
            self._offset -= self._width * no
        self._width *= ONE - no if found else no
        return found
