"""The post-filter: a few numbers in a file that fit what g_s draws to its picture.

g_s answers for all pictures at once, and over all of them nothing around a pixel tells its error.
In one picture it does: edges and grain are a little too soft or too sharp, colours a little too
faint. So the encoder draws the picture, too, and fits by least squares how much of each of TERMS to
add: an adaptive loop filter as in video codecs ([Tsai2013] doi:10.1109/JSTSP.2013.2271974; clipped
differences: [Taquet2019] doi:10.1109/ICIP.2019.8803448), outside of any loop. Format section:
docs/format.md, "Filter". docs/training.md has what it gains.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mambaic.errors import CorruptStream
from mambaic.filter_terms import AROUND, ORDER, TERMS, Drawn, to_colours, to_planes

STEP = 1 / 16  # of a coefficient at fineness 0; halved with every next one
FINENESS_BITS = 3
LONGEST = 20  # zeros before a number's digits
BAND = 512  # rows that are corrected at once: terms take many times the memory of a picture
SUMMED = 1 << 14  # pixels whose products are summed in float32; the sums are in float64


@dataclass(frozen=True)
class PostFilter:
    """Multiples of ``STEP / 2**fineness``: how much of each of ``TERMS`` is added."""

    fineness: int
    multiples: tuple[tuple[int, ...], ...]

    @property
    def idle(self) -> bool:
        """True if it changes nothing."""
        return not any(map(any, self.multiples))

    def apply(self, drawn: Drawn) -> Tensor:
        """R, G and B (3, H, W) of a drawn picture, corrected; not clamped."""
        if self.idle:
            return drawn.x_hat
        corrected = torch.empty_like(drawn.x_hat)
        for top in range(0, corrected.shape[1], BAND):
            first = max(0, top - AROUND)
            band = drawn.cut(slice(first, top + BAND + AROUND), slice(None))
            corrected[:, top : top + BAND] = self._apply(band)[:, top - first :][:, :BAND]
        return corrected

    def _apply(self, drawn: Drawn) -> Tensor:
        added = torch.zeros_like(drawn.planes)
        for own, (terms, multiples) in enumerate(zip(TERMS, self.multiples, strict=True)):
            for term, multiple in zip(terms, multiples, strict=True):
                if multiple:
                    coefficient = multiple * STEP / 2**self.fineness
                    added[own].add_(term(drawn, own), alpha=coefficient)
        return drawn.x_hat + to_colours(added)

    def to_bytes(self) -> bytes:
        """As a file keeps it; ``from_bytes`` is the inverse."""
        numbers = [self.multiples[own][at] for own, at in ORDER]
        while numbers and not numbers[-1]:
            numbers.pop()
        bits = format(self.fineness, f"0{FINENESS_BITS}b") + "".join(map(_code, numbers))
        bits += "0" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big")

    @classmethod
    def from_bytes(cls, data: bytes) -> PostFilter:
        """Raises CorruptStream."""
        digits = "".join(format(byte, "08b") for byte in data)
        written = digits.rstrip("0")  # every number has a 1 in it
        bits = iter(digits)
        fineness = int(_take(bits, FINENESS_BITS), 2)
        position = FINENESS_BITS
        multiples = [[0] * len(terms) for terms in TERMS]
        for own, at in ORDER:
            if position >= len(written):
                break  # numbers that are 0 are left out at the end
            multiples[own][at], length = _decode(bits)
            position += length
        if len(digits) - position >= 8 or len(written) > position:
            raise CorruptStream("more follows the filter than its padding: the data is damaged")
        return cls(fineness, tuple(map(tuple, multiples)))


IDLE = PostFilter(0, tuple((0,) * len(terms) for terms in TERMS))


def _code(multiple: int) -> str:
    """Binary digits of 1, 2, 3, ... for 0, 1, -1, 2, -2, ..., and as many zeros before them as
    there are digits less one: Elias's gamma code."""
    digits = format(2 * abs(multiple) + (multiple <= 0), "b")
    return "0" * (len(digits) - 1) + digits


def _decode(bits: Iterator[str]) -> tuple[int, int]:
    """A multiple and how many digits it took."""
    zeros = 0
    while _take(bits, 1) == "0":
        zeros += 1
        if zeros > LONGEST:
            raise CorruptStream("the filter has a number that is too long: the data is damaged")
    number = int("1" + _take(bits, zeros), 2)
    return (-(number // 2) if number % 2 else number // 2), 2 * zeros + 1


def _take(bits: Iterator[str], count: int) -> str:
    taken = "".join(itertools.islice(bits, count))
    if len(taken) < count:
        raise CorruptStream("the filter is cut off: the data is damaged")
    return taken


def _length(multiples: np.ndarray) -> np.ndarray:
    """Bits that each of an array takes."""
    number = 2 * np.abs(multiples) + (multiples <= 0)
    return 2 * np.floor(np.log2(number)).astype(int) + 1


class Fit:
    """Collects what least squares need, region by region; then finds the filter."""

    def __init__(self, planes: int = 3) -> None:
        """``planes``: 1 of a gray picture, whose colours nobody sees."""
        self._gram = [np.zeros((len(TERMS[own]),) * 2) for own in range(planes)]
        self._cross = [np.zeros(len(TERMS[own])) for own in range(planes)]
        self._pixels = 0

    def add(self, drawn: Drawn, x: Tensor) -> None:
        """A region as drawn and as it is, (3, H, W) in [0, 1]."""
        error = to_planes(x) - drawn.planes
        for own in range(len(self._gram)):
            terms = [term(drawn, own).flatten() for term in TERMS[own]]
            rows = torch.stack([*terms, error[own].flatten()])
            products = torch.stack([part @ part.T for part in rows.split(SUMMED, dim=1)])
            sums = products.double().sum(dim=0).cpu().numpy()
            self._gram[own] += sums[:-1, :-1]
            self._cross[own] += sums[:-1, -1]
        self._pixels += x[0].numel()

    @classmethod
    def of(cls, parts: Iterable[Fit]) -> Fit:
        """One of the regions of all of them; at least one."""
        of_regions = list(parts)
        total = cls(len(of_regions[0]._gram))
        for part in of_regions:
            for own in range(len(total._gram)):
                total._gram[own] += part._gram[own]
                total._cross[own] += part._cross[own]
            total._pixels += part._pixels
        return total

    def solve(self, weight: float, pixels: int) -> PostFilter:
        """The filter that costs least, bits and ``weight`` times the squared error that it leaves
        in a picture of ``pixels``, of which the regions are a part."""
        weight *= pixels / max(1, self._pixels)
        found = [self._of_plane(own, weight) for own in range(len(self._gram))]
        totals = np.sum([costs for costs, _ in found], axis=0)
        fineness = int(np.argmin(totals))
        multiples = [tuple(map(int, choices[fineness])) for _, choices in found]
        return PostFilter(fineness, (*multiples, *IDLE.multiples[len(found) :]))

    def _of_plane(self, own: int, weight: float) -> tuple[np.ndarray, np.ndarray]:
        """Least cost and its multiples at every fineness: of all terms by least squares, then
        without the one that is missed least, and so on."""
        gram, cross = self._gram[own], self._cross[own]
        steps = STEP / 2.0 ** np.arange(1 << FINENESS_BITS)
        costs = np.full(len(steps), np.inf)
        choices = np.zeros((len(steps), len(cross)), dtype=int)
        # terms are told apart as far as float32 tells them apart, and no further
        ridge = np.diag(1e-6 * np.diag(gram) + 1e-12)
        kept = list(range(len(cross)))
        while True:
            inverse = np.linalg.inv((gram + ridge)[np.ix_(kept, kept)])
            exact = np.zeros(len(cross))
            exact[kept] = inverse @ cross[kept]
            multiples = np.rint(exact / steps[:, None]).astype(int)
            values = multiples * steps[:, None]
            error = np.sum((values @ gram) * values, axis=1) - 2 * values @ cross
            lengths = _length(multiples)
            total = weight * error + lengths.sum(axis=1)
            better = (total < costs) & (lengths <= 2 * LONGEST + 1).all(axis=1)
            costs[better], choices[better] = total[better], multiples[better]
            if not kept:
                return costs, choices
            # the squared error grows least without this one
            del kept[np.argmin(exact[kept] ** 2 / np.diag(inverse))]
