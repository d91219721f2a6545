"""What the post-filter adds multiples of: terms of a drawn picture, plane by plane.

A term is a map of differences or values, many of them once more times how far a pixel may be off,
the contrast or the brightness around it: where a filter pays depends on these.

Each was taken for what it gains on training pictures (docs/training.md, "The post-filter").
Format section: docs/format.md, "Filter".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mambaic.drawn import (
    BRIGHTNESS,
    BRIGHTNESS2,
    COLOUR_CONTRAST,
    CONTRAST,
    ERROR,
    ERROR2,
    FIRST,
    PLAIN,
    RATIO,
    SATURATION,
    SECOND,
    Drawn,
    moved,
)

# Where clips follow how far a pixel may be off: their shares of it
CLIP_SHARE = 2.0  # of differences between neighbours
SMALL_SHARES = (0.1, 0.3)  # of differences to means

Map = Callable[[Drawn, int], Tensor]  # of one of the planes: (H, W)


class Term(NamedTuple):
    """A map, and the factors that it is weighed by: as many terms as factors."""

    map: Map
    factors: tuple[str, ...] = (PLAIN,)


def count(own: int) -> int:
    """Terms of plane ``own``."""
    return sum(len(term.factors) for term in TERMS[own])


def write_terms(drawn: Drawn, own: int, out: Tensor) -> None:
    """Every term of plane ``own`` into ``out`` (terms, H, W)."""
    following = iter(out)
    for term in TERMS[own]:
        values = term.map(drawn, own)
        for factor in term.factors:
            torch.mul(values, drawn.factors[factor], out=next(following))


def weighed(drawn: Drawn, own: int, coefficients: Sequence[float]) -> Tensor:
    """The sum (H, W) of all of them, each times its coefficient."""
    total = torch.zeros_like(drawn.planes[own])
    following = iter(coefficients)
    for term in TERMS[own]:
        factor = torch.zeros_like(total)
        for name in term.factors:
            factor.add_(drawn.factors[name], alpha=next(following))
        total.addcmul_(term.map(drawn, own), factor)
    return total


def _ring(*offsets: tuple[int, int], clip: float | None = None, share: float = 0.0) -> Map:
    """Differences to the neighbours at ``offsets`` and opposite to them, each within ``clip`` or
    within a share of the deviation."""

    def sums(drawn: Drawn, own: int) -> Tensor:
        plane, padded = drawn.planes[own], drawn.padded[own]
        limit = share * drawn.deviation if share else clip
        total = torch.zeros_like(plane)
        for dy, dx in (*offsets, *((-dy, -dx) for dy, dx in offsets)):
            difference = moved(padded, dy, dx) - plane
            total += difference if limit is None else _within(difference, limit)
        return total

    return sums


def _within(x: Tensor, limit: Tensor | float) -> Tensor:
    limit = torch.as_tensor(limit).to(x)
    return x.clamp_(-limit, limit)


def _clipped(differences: Map, share: float) -> Map:
    """Within a share of the deviation."""
    return lambda drawn, own: _within(differences(drawn, own).clone(), share * drawn.deviation)


def _to(name: str, which: int) -> Map:
    """One of the differences of ``Drawn`` by its name."""
    return lambda drawn, own: getattr(drawn, name)[which][own]


def _of(differences: Map, plane: int) -> Map:
    """The same of another plane."""
    return lambda drawn, _: differences(drawn, plane)


def _guided(drawn: Drawn, own: int) -> Tensor:
    return drawn.guided[own]


def _value(drawn: Drawn, own: int) -> Tensor:
    return drawn.planes[own]


def _constant(drawn: Drawn, own: int) -> Tensor:
    return torch.full_like(drawn.planes[own], 0.125)


_NEXT, _SECOND, _DIAGONAL = ((0, 1), (1, 0)), ((0, 2), (2, 0)), ((1, 1), (1, -1))
_SIMILAR = _to("similar", 0), _to("similar", 1)
_BY_ERROR = _to("similar_by_error", 0), _to("similar_by_error", 1)
_NEAR = _to("near_by_error", 0), _to("near_by_error", 1)
_TIGHT, _LOOSE = _to("guided_by_error", 0), _to("guided_by_error", 1)
_ACROSS = _to("steered", 0), _to("steered", 1)
_SMOOTH: tuple[Term, ...] = (
    *(Term(similar, (PLAIN, ERROR, RATIO)) for similar in _SIMILAR),
    Term(_BY_ERROR[0], (PLAIN, ERROR, ERROR2, RATIO, CONTRAST, COLOUR_CONTRAST, SATURATION)),
    Term(_BY_ERROR[1], (PLAIN, ERROR, RATIO, SATURATION, BRIGHTNESS, BRIGHTNESS2)),
    Term(_NEAR[0], (PLAIN, ERROR, ERROR2, RATIO, CONTRAST)),
    Term(
        _NEAR[1],
        (PLAIN, ERROR, RATIO, COLOUR_CONTRAST, SATURATION, BRIGHTNESS, BRIGHTNESS2),
    ),
    *(Term(_clipped(similar, SMALL_SHARES[0])) for similar in (_BY_ERROR[0], _NEAR[0], _LOOSE)),
    *(Term(_clipped(similar, SMALL_SHARES[1])) for similar in (*_BY_ERROR, _NEAR[1], _LOOSE)),
    Term(_guided, (PLAIN, ERROR, RATIO)),
    Term(_TIGHT, (PLAIN, RATIO)),
    Term(
        _LOOSE,
        (
            *(PLAIN, ERROR, ERROR2, RATIO, CONTRAST, COLOUR_CONTRAST, SATURATION),
            *(BRIGHTNESS, BRIGHTNESS2),
        ),
    ),
    Term(_to("squares", 0), (ERROR, RATIO)),
    Term(_to("squares", 1), (ERROR,)),
    Term(_to("squares", 2), (ERROR, RATIO)),
    Term(_ACROSS[0], (PLAIN, ERROR, RATIO, CONTRAST, SATURATION)),
    Term(_ACROSS[1], (PLAIN, ERROR, RATIO, CONTRAST)),
    *(Term(_ring(*offsets, share=CLIP_SHARE)) for offsets in (_NEXT, _SECOND)),
)
_NEIGHBOURS = Term(
    _ring(*_NEXT),
    (PLAIN, ERROR, ERROR2, RATIO, COLOUR_CONTRAST, SATURATION, BRIGHTNESS, BRIGHTNESS2),
)
_COLOURS = (FIRST, SECOND)
_OF_BRIGHTNESS: tuple[Term, ...] = (
    _NEIGHBOURS,
    Term(_ring(*_NEXT, clip=0.08)),
    Term(_ring(*_NEXT, clip=0.01), (PLAIN, ERROR)),
    Term(_ring(*_SECOND), (PLAIN, CONTRAST)),
    Term(_ring(*_SECOND, clip=0.08), (PLAIN, CONTRAST)),
    Term(_ring(*_SECOND, clip=0.01)),
    Term(_ring(*_DIAGONAL, clip=0.08)),
    *_SMOOTH,
    *(Term(differences, _COLOURS) for differences in (_BY_ERROR[0], _LOOSE, _ring(*_NEXT))),
)


def _of_colours(own: int, other: int) -> tuple[Term, ...]:
    """``other`` is the other plane of colours."""
    return (
        _NEIGHBOURS,
        Term(_ring(*_NEXT, clip=0.01), (PLAIN, ERROR)),
        *(Term(_ring(*_SECOND, clip=clip)) for clip in (None, 0.01)),
        *_SMOOTH,
        # the other planes, where colours change with them
        Term(_of(_ring(*_NEXT), other)),
        Term(_of(_ring(*_DIAGONAL), 0)),
        Term(_of(_BY_ERROR[0], other), (PLAIN, RATIO, SATURATION)),
        *(Term(_of(similar, other)) for similar in (_BY_ERROR[1], _NEAR[1], _LOOSE)),
        *(Term(_of(similar, 0)) for similar in (_SIMILAR[0], _BY_ERROR[1], _NEAR[0], _guided)),
        *(
            Term(_of(similar, 0), (PLAIN, ERROR, RATIO, SATURATION, *_COLOURS))
            for similar in (_BY_ERROR[0], _LOOSE)
        ),
        Term(_of(_NEAR[1], 0), (ERROR, RATIO)),
        *(Term(_of(differences, 0), _COLOURS) for differences in (_ACROSS[0], _ring(*_NEXT))),
        # what is too faint or too strong
        Term(_constant),
        Term(_of(_value, 0)),
        Term(_of(_value, own), (PLAIN, ERROR, RATIO, SATURATION)),
        Term(_of(_value, other), (PLAIN, ERROR)),
    )


TERMS = (_OF_BRIGHTNESS, _of_colours(1, 2), _of_colours(2, 1))
