"""Taps of the post-filter: maps of a reconstruction that it adds multiples of, plane by plane.

A tap is a map of differences or values, many of them once more times how far a pixel may be off,
the contrast or the brightness around it: where a filter pays depends on these.

Each was taken for its gain on training pictures (docs/design/filter.md).
Format section: docs/format.md, "Filter".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from mambaic.reconstruction.filter_features import Factor, Reconstruction, Source
from mambaic_kernels.filter_taps import reference as kernels
from mambaic_kernels.filter_taps.scene import UNCLIPPED, Map, Tap, Taps, count_taps

PLAIN, ERROR, ERROR2, RATIO = Factor.PLAIN, Factor.ERROR, Factor.ERROR2, Factor.RATIO
CONTRAST, COLOUR_CONTRAST = Factor.CONTRAST, Factor.COLOUR_CONTRAST
SATURATION, BRIGHTNESS, BRIGHTNESS2 = Factor.SATURATION, Factor.BRIGHTNESS, Factor.BRIGHTNESS2
COLOURS = Factor.FIRST, Factor.SECOND

# Where clips follow how far a pixel may be off: their shares of it
CLIP_SHARE = 2.0  # of differences between neighbours
SMALL, LESS_SMALL = 0.1, 0.3  # of differences to means

OfPlane = Callable[[int], Map]  # the same map of every plane
Weighted = tuple[OfPlane, tuple[Factor, ...]]


def count(own: int) -> int:
    """Taps of plane ``own``."""
    return count_taps(TAPS[own])


def write_taps(reconstruction: Reconstruction, planes: int, rows: slice, out: Tensor) -> None:
    """The taps of the first ``planes``, in these rows, into ``out`` (taps, rows, W)."""
    kernels.write_taps(reconstruction.scene, TAPS[:planes], rows, out)


def weighted_sums(
    reconstruction: Reconstruction, coefficients: Sequence[Sequence[float]]
) -> Tensor:
    """For each of the first planes the sum of its taps, each times its coefficient: (planes, H,
    W)."""
    return kernels.weighted_sums(reconstruction.scene, TAPS[: len(coefficients)], coefficients)


def _known(source: Source) -> OfPlane:
    return lambda plane: Map(source.of(plane))


def _within(share: float, source: Source) -> OfPlane:
    """A map within a share of the deviation."""
    return lambda plane: Map(source.of(plane), clip=0.0, share=share)


def _ring(*offsets: tuple[int, int], clip: float = UNCLIPPED, share: float = 0.0) -> OfPlane:
    """Differences to the neighbours at ``offsets`` and opposite to them, each within ``clip`` and
    a share of the deviation."""
    around = (*offsets, *((-dy, -dx) for dy, dx in offsets))
    return lambda plane: Map(plane, around, clip, share)


def _taps(plane: int, *rows: Weighted) -> Taps:
    return tuple(Tap(of(plane), factors) for of, factors in rows)


_NEXT, _SECOND, _DIAGONAL = ((0, 1), (1, 0)), ((0, 2), (2, 0)), ((1, 1), (1, -1))
_VALUE, _CONSTANT, _GUIDED = _known(Source.VALUE), _known(Source.CONSTANT), _known(Source.GUIDED)
_SIMILAR, _SIMILAR_WIDE = _known(Source.SIMILAR), _known(Source.SIMILAR_WIDE)
_BY_ERROR, _BY_ERROR_WIDE = _known(Source.BY_ERROR), _known(Source.BY_ERROR_WIDE)
_NEAR, _NEAR_WIDE = _known(Source.NEAR), _known(Source.NEAR_WIDE)
_TIGHT, _LOOSE = _known(Source.GUIDED_TIGHT), _known(Source.GUIDED_LOOSE)
_ACROSS, _ACROSS_WIDE = _known(Source.ACROSS), _known(Source.ACROSS_WIDE)
_ALL = (
    *(PLAIN, ERROR, ERROR2, RATIO, CONTRAST, COLOUR_CONTRAST, SATURATION),
    *(BRIGHTNESS, BRIGHTNESS2),
)
_NEIGHBOURS: Weighted = (_ring(*_NEXT), tuple(factor for factor in _ALL if factor != CONTRAST))
_SMOOTH: tuple[Weighted, ...] = (
    (_SIMILAR, (PLAIN, ERROR, RATIO)),
    (_SIMILAR_WIDE, (PLAIN, ERROR, RATIO)),
    (_BY_ERROR, (PLAIN, ERROR, ERROR2, RATIO, CONTRAST, COLOUR_CONTRAST, SATURATION)),
    (_BY_ERROR_WIDE, (PLAIN, ERROR, RATIO, SATURATION, BRIGHTNESS, BRIGHTNESS2)),
    (_NEAR, (PLAIN, ERROR, ERROR2, RATIO, CONTRAST)),
    (_NEAR_WIDE, (PLAIN, ERROR, RATIO, COLOUR_CONTRAST, SATURATION, BRIGHTNESS, BRIGHTNESS2)),
    (_within(SMALL, Source.BY_ERROR), (PLAIN,)),
    (_within(SMALL, Source.NEAR), (PLAIN,)),
    (_within(SMALL, Source.GUIDED_LOOSE), (PLAIN,)),
    (_within(LESS_SMALL, Source.BY_ERROR), (PLAIN,)),
    (_within(LESS_SMALL, Source.BY_ERROR_WIDE), (PLAIN,)),
    (_within(LESS_SMALL, Source.NEAR_WIDE), (PLAIN,)),
    (_within(LESS_SMALL, Source.GUIDED_LOOSE), (PLAIN,)),
    (_GUIDED, (PLAIN, ERROR, RATIO)),
    (_TIGHT, (PLAIN, RATIO)),
    (_LOOSE, _ALL),
    (_known(Source.SQUARE), (ERROR, RATIO)),
    (_known(Source.SQUARE_WIDER), (ERROR,)),
    (_known(Source.SQUARE_WIDEST), (ERROR, RATIO)),
    (_ACROSS, (PLAIN, ERROR, RATIO, CONTRAST, SATURATION)),
    (_ACROSS_WIDE, (PLAIN, ERROR, RATIO, CONTRAST)),
    (_ring(*_NEXT, clip=0.0, share=CLIP_SHARE), (PLAIN,)),
    (_ring(*_SECOND, clip=0.0, share=CLIP_SHARE), (PLAIN,)),
)
_OF_BRIGHTNESS = _taps(
    0,
    _NEIGHBOURS,
    (_ring(*_NEXT, clip=0.08), (PLAIN,)),
    (_ring(*_NEXT, clip=0.01), (PLAIN, ERROR)),
    (_ring(*_SECOND), (PLAIN, CONTRAST)),
    (_ring(*_SECOND, clip=0.08), (PLAIN, CONTRAST)),
    (_ring(*_SECOND, clip=0.01), (PLAIN,)),
    (_ring(*_DIAGONAL, clip=0.08), (PLAIN,)),
    *_SMOOTH,
    *((differences, COLOURS) for differences in (_BY_ERROR, _LOOSE, _ring(*_NEXT))),
)


def _of_colours(own: int, other: int) -> Taps:
    """``other`` is the other plane of colours."""
    return (
        *_taps(
            own,
            _NEIGHBOURS,
            (_ring(*_NEXT, clip=0.01), (PLAIN, ERROR)),
            (_ring(*_SECOND), (PLAIN,)),
            (_ring(*_SECOND, clip=0.01), (PLAIN,)),
            *_SMOOTH,
        ),
        # the other planes, where colours change with them
        *_taps(other, (_ring(*_NEXT), (PLAIN,))),
        *_taps(0, (_ring(*_DIAGONAL), (PLAIN,))),
        *_taps(other, (_BY_ERROR, (PLAIN, RATIO, SATURATION))),
        *_taps(other, *((of, (PLAIN,)) for of in (_BY_ERROR_WIDE, _NEAR_WIDE, _LOOSE))),
        *_taps(0, *((of, (PLAIN,)) for of in (_SIMILAR, _BY_ERROR_WIDE, _NEAR, _GUIDED))),
        *_taps(
            0,
            (_BY_ERROR, (PLAIN, ERROR, RATIO, SATURATION, *COLOURS)),
            (_LOOSE, (PLAIN, ERROR, RATIO, SATURATION, *COLOURS)),
            (_NEAR_WIDE, (ERROR, RATIO)),
            (_ACROSS, COLOURS),
            (_ring(*_NEXT), COLOURS),
        ),
        # what is too faint or too strong
        *_taps(0, (_CONSTANT, (PLAIN,)), (_VALUE, (PLAIN,))),
        *_taps(own, (_VALUE, (PLAIN, ERROR, RATIO, SATURATION))),
        *_taps(other, (_VALUE, (PLAIN, ERROR))),
    )


TAPS = (_OF_BRIGHTNESS, _of_colours(1, 2), _of_colours(2, 1))
