"""Code of the post-filter's coefficients: integers along a learned basis, by their probabilities.

Taps resemble each other, so their coefficients are correlated, and each one alone would have to be
quantised finely. A checkpoint therefore has a basis for every plane, in which numbers are
independent, matter alike, and are the smaller the later they come: learned from photographs'
filters (``mambaic_train.filter_code``), as are the probabilities of its numbers. Format section:
docs/format.md, "Filter".
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mambaic.coding.binary_arithmetic import HALF, ONE, Decisions, Reader, Writer
from mambaic.errors import CorruptStream
from mambaic.reconstruction.filter_taps import TAPS, count

FINENESS_BITS = 4
STEPS = 2.0 ** (3.5 - 0.5 * np.arange(1 << FINENESS_BITS))  # of a number, by fineness
LONG = 8  # numbers of this size are followed by how much larger they are
MAX_DIGITS = 20  # of that
UNTRAINED = 2.0**-6  # a coefficient for a step of 1, before there is a basis


class CodedFilter(NamedTuple):
    """Integers of every plane, one per tap, and their common fineness."""

    fineness: int
    numbers: tuple[tuple[int, ...], ...]


class PlaneCode(nn.Module):
    """Of one plane: ``basis`` (taps, numbers); of every number at every fineness (finenesses,
    numbers) the probabilities, of 65536, that it is 0 (``zero``) and that one not 0 ends at each
    size (``last``)."""

    basis: Tensor
    zero: Tensor
    last: Tensor

    def __init__(self, taps: int) -> None:
        super().__init__()
        self.register_buffer("basis", UNTRAINED * torch.eye(taps))
        shape = len(STEPS), taps
        self.register_buffer("zero", torch.full(shape, ONE - ONE // 8, dtype=torch.int32))
        self.register_buffer("last", torch.full(shape, ONE // 4, dtype=torch.int32))


class FilterCode(nn.Module):
    """Of all planes. Part of a checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.planes = nn.ModuleList(PlaneCode(count(own)) for own in range(len(TAPS)))

    def directions(self, own: int, fineness: int) -> Tensor:
        """What one more of each number adds to the coefficients of plane ``own``: (taps,
        numbers), float64."""
        return self.plane(own).basis.double().cpu() * float(STEPS[fineness])

    def probabilities(self, own: int, fineness: int) -> tuple[list[int], list[int]]:
        """``zero`` and ``last`` of every number."""
        plane = self.plane(own)
        return plane.zero[fineness].tolist(), plane.last[fineness].tolist()

    def plane(self, own: int) -> PlaneCode:
        """Of plane ``own``."""
        plane = self.planes[own]
        assert isinstance(plane, PlaneCode)
        return plane

    @property
    def sound(self) -> bool:
        """True if what decoding relies on holds: no decision is certain."""
        planes = (self.plane(own) for own in range(len(TAPS)))
        chances = itertools.chain.from_iterable((plane.zero, plane.last) for plane in planes)
        return all(bool(((t > 0) & (t < ONE)).all()) for t in chances)

    def coefficients(self, coded: CodedFilter) -> tuple[Tensor, ...]:
        """Of the taps of every plane, float64."""
        return tuple(
            self.directions(own, coded.fineness) @ torch.tensor(numbers, dtype=torch.float64)
            for own, numbers in enumerate(coded.numbers)
        )

    def to_bytes(self, coded: CodedFilter) -> bytes:
        """As a file keeps it; ``from_bytes`` is the inverse."""
        writer = Writer()
        self._walk(writer, coded)
        return writer.to_bytes()

    def from_bytes(self, data: bytes, planes: int) -> CodedFilter:
        """Raises CorruptStream."""
        nothing = tuple((0,) * count(own) for own in range(planes))
        coded = self._walk(Reader(data), CodedFilter(0, nothing))
        if self.to_bytes(coded) != data:
            raise CorruptStream("the filter is not as an encoder writes one: the data is damaged")
        return coded

    def _walk(self, decisions: Decisions, coded: CodedFilter) -> CodedFilter:
        fineness = _binary(decisions, coded.fineness, FINENESS_BITS)
        rows = []
        for own, numbers in enumerate(coded.numbers):
            chances = zip(*self.probabilities(own, fineness), numbers, strict=True)
            rows.append(tuple(_number(decisions, *chance) for chance in chances))
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


def rate(zero: int, last: int) -> Callable[[int], float]:
    """Bits that a number takes, by its size."""
    log = np.log2
    end, more = log(ONE / last), log(ONE / (ONE - last))
    sizes = 1 + log(ONE / (ONE - zero)) + more * np.arange(LONG)
    sizes[:-1] += end
    short = [log(ONE / zero), *sizes]

    def bits(size: int) -> float:
        if size < LONG:
            return short[size]
        return short[LONG] + 2 * (size - LONG + 1).bit_length() - 1

    return bits
