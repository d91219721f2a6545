"""The post-filter: a few numbers in a file that fit what g_s draws to its picture.

g_s answers for all pictures at once, and over all of them nothing around a pixel tells its error.
In one picture it does: edges and grain are a little too soft or too sharp, colours a little too
faint. So the encoder draws the picture, too, and fits by least squares how much of each of TERMS to
add: an adaptive loop filter as in video codecs ([Tsai2013] doi:10.1109/JSTSP.2013.2271974; clipped
differences: [Taquet2019] doi:10.1109/ICIP.2019.8803448), outside of any loop. Format section:
docs/format.md, "Filter". docs/training.md has what it gains.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mambaic.errors import CorruptStream

# brightness and two differences of colours, orthonormal: squared errors are those of R, G and B
PLANES = np.array([[1, 1, 1], [1, 0, -1], [-0.5, 1, -0.5]])
PLANES /= np.linalg.norm(PLANES, axis=1, keepdims=True)
REACH = 2  # pixels to each side whose differences count
SURROUNDINGS = 3  # pixels to each side that contrast is measured over
STEP = 1 / 16  # of a coefficient at fineness 0; halved with every next one
FINENESS_BITS = 3
LONGEST = 20  # zeros before a number's digits
SUMMED = 1 << 14  # pixels whose products are summed in float32; the sums are in float64


def _planes(x: Tensor) -> Tensor:
    """Planes (3, H, W), around middle gray, of R, G and B in [0, 1]."""
    return torch.tensordot(torch.from_numpy(PLANES).to(x), x - 0.5, dims=1)


class _Drawn:
    """A drawn picture as terms see it."""

    def __init__(self, x_hat: Tensor) -> None:
        """R, G and B (3, H, W) in [0, 1]."""
        self.planes = _planes(x_hat)
        self.padded = F.pad(self.planes[None], [REACH] * 4, mode="replicate")[0]

    @functools.cached_property
    def contrast(self) -> Tensor:
        """Standard deviation (H, W) of the brightness around each pixel."""
        x = self.planes[0]
        side = 2 * SURROUNDINGS + 1
        sums = F.pad(torch.stack([x, x * x])[None], [SURROUNDINGS] * 4, mode="replicate")[0]
        for dim in (1, 2):
            parts = [sums.narrow(dim, at, x.shape[dim - 1]) for at in range(side)]
            sums = functools.reduce(torch.add, parts)
        mean, of_squares = sums / side**2
        return (of_squares - mean * mean).clamp_(min=0).sqrt_()


Term = Callable[[_Drawn, int], Tensor]  # of one of the planes: (H, W)


def _ring(*offsets: tuple[int, int], clip: float = math.inf, of: int | None = None) -> Term:
    """Differences to the neighbours at ``offsets`` and opposite to them, each within ``clip``."""

    def term(drawn: _Drawn, own: int) -> Tensor:
        which = own if of is None else of
        plane, padded = drawn.planes[which], drawn.padded[which]
        height, width = plane.shape
        total = torch.zeros_like(plane)
        for dy, dx in (*offsets, *((-dy, -dx) for dy, dx in offsets)):
            top, left = REACH + dy, REACH + dx
            difference = padded[top : top + height, left : left + width] - plane
            total += difference if clip == math.inf else difference.clamp_(-clip, clip)
        return total

    return term


def _by_contrast(term: Term) -> Term:
    return lambda drawn, own: 4 * drawn.contrast * term(drawn, own)


def _value(of: int) -> Term:
    return lambda drawn, own: drawn.planes[of]


_NEXT, _SECOND, _DIAGONAL = ((0, 1), (1, 0)), ((0, 2), (2, 0)), ((1, 1), (1, -1))
_BRIGHTNESS = (
    *(_ring(*_NEXT, clip=clip) for clip in (math.inf, 0.08, 0.01)),
    *(_ring(*_SECOND, clip=clip) for clip in (math.inf, 0.08, 0.01)),
    _ring(*_DIAGONAL, clip=0.08),
    *(_by_contrast(_ring(*_SECOND, clip=clip)) for clip in (math.inf, 0.08)),
)


def _colour(other: int) -> tuple[Term, ...]:
    """Terms of a plane of colours; ``other`` is the other one."""
    return (
        *(_ring(*_NEXT, clip=clip) for clip in (math.inf, 0.01)),
        *(_ring(*_SECOND, clip=clip) for clip in (math.inf, 0.01)),
        _ring(*_NEXT, of=other),
        _ring(*_DIAGONAL, of=0),
        lambda drawn, own: torch.full_like(drawn.planes[own], 0.125),
        *(_value(of) for of in range(3)),
    )


TERMS: tuple[tuple[Term, ...], ...] = (_BRIGHTNESS, _colour(2), _colour(1))  # of each plane


@dataclass(frozen=True)
class PostFilter:
    """Multiples of ``STEP / 2**fineness``: how much of each of ``TERMS`` is added."""

    fineness: int
    multiples: tuple[tuple[int, ...], ...]

    @property
    def idle(self) -> bool:
        """True if it changes nothing."""
        return not any(map(any, self.multiples))

    def apply(self, x_hat: Tensor) -> Tensor:
        """R, G and B (3, H, W) of a drawn picture in [0, 1], corrected; not clamped."""
        drawn = _Drawn(x_hat)
        added = torch.zeros_like(drawn.planes)
        for own, (terms, multiples) in enumerate(zip(TERMS, self.multiples, strict=True)):
            for term, multiple in zip(terms, multiples, strict=True):
                if multiple:
                    coefficient = multiple * STEP / 2**self.fineness
                    added[own].add_(term(drawn, own), alpha=coefficient)
        return x_hat + torch.tensordot(torch.from_numpy(PLANES.T.copy()).to(x_hat), added, dims=1)

    def to_bytes(self) -> bytes:
        """As a file keeps it; ``from_bytes`` is the inverse."""
        bits = format(self.fineness, f"0{FINENESS_BITS}b")
        bits += "".join(map(_code, (m for of_plane in self.multiples for m in of_plane)))
        bits += "0" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big")

    @classmethod
    def from_bytes(cls, data: bytes) -> PostFilter:
        """Raises CorruptStream."""
        bits = iter("".join(format(byte, "08b") for byte in data))
        fineness = int(_take(bits, FINENESS_BITS), 2)
        multiples = tuple(tuple(_decode(bits) for _ in terms) for terms in TERMS)
        if (rest := "".join(bits)) != "0" * (len(rest) % 8):
            raise CorruptStream("more follows the filter than its padding: the data is damaged")
        return cls(fineness, multiples)


IDLE = PostFilter(0, tuple((0,) * len(terms) for terms in TERMS))


def _code(multiple: int) -> str:
    """Binary digits of 1, 2, 3, ... for 0, 1, -1, 2, -2, ..., and as many zeros before them as
    there are digits less one: Elias's gamma code."""
    digits = format(2 * abs(multiple) + (multiple <= 0), "b")
    return "0" * (len(digits) - 1) + digits


def _decode(bits: Iterator[str]) -> int:
    zeros = 0
    while _take(bits, 1) == "0":
        zeros += 1
        if zeros > LONGEST:
            raise CorruptStream("the filter has a number that is too long: the data is damaged")
    number = int("1" + _take(bits, zeros), 2)
    return -(number // 2) if number % 2 else number // 2


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

    def add(self, x_hat: Tensor, x: Tensor) -> None:
        """A region as drawn and as it is, (3, H, W) in [0, 1]."""
        drawn = _Drawn(x_hat)
        error = _planes(x) - drawn.planes
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
            exact = np.zeros(len(cross))
            if kept:
                within = np.ix_(kept, kept)
                exact[kept] = np.linalg.solve((gram + ridge)[within], cross[kept])
            multiples = np.rint(exact / steps[:, None]).astype(int)
            values = multiples * steps[:, None]
            error = np.sum((values @ gram) * values, axis=1) - 2 * values @ cross
            lengths = _length(multiples)
            total = weight * error + lengths.sum(axis=1)
            better = (total < costs) & (lengths <= 2 * LONGEST + 1).all(axis=1)
            costs[better], choices[better] = total[better], multiples[better]
            if not kept:
                return costs, choices
            kept.remove(self._least(own, kept, ridge))

    def _least(self, own: int, kept: list[int], ridge: np.ndarray) -> int:
        """The kept term without which least squares explain most."""

        def explained(without: int) -> float:
            rest = [term for term in kept if term != without]
            cross = self._cross[own][rest]
            gram = (self._gram[own] + ridge)[np.ix_(rest, rest)]
            return float(cross @ np.linalg.solve(gram, cross))

        return max(kept, key=explained)
