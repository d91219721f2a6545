"""What the post-filter adds multiples of: terms of a drawn picture, plane by plane.

Each was taken for what it gains on training pictures (docs/training.md, "The post-filter").
Format section: docs/format.md, "Filter".
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mambaic_kernels.smooth import bilateral, box_mean

# brightness and two differences of colours, orthonormal: squared errors are those of R, G and B
PLANES = np.array([[1, 1, 1], [1, 0, -1], [-0.5, 1, -0.5]])
PLANES /= np.linalg.norm(PLANES, axis=1, keepdims=True)
REACH = 2  # pixels to each side whose differences count
CONTRAST = 3  # pixels to each side that contrast is measured over
# Similar pixels are looked for on rings of 16, each turned by half a step against the one before;
# how similar: the differences of colours at which a pixel counts much and little
RADII = (2, 3, 4, 5, 6, 7, 9, 11, 13, 16, 19, 22, 26, 30)
WIDTHS = (0.04, 0.09)
NEAREST = (1, 2, 3, 4)  # rings of their own
# pixels to each side, and the standard deviation within which the guided filter smooths
GUIDED, FLAT = 6, 0.03
# Where widths, that deviation and clips follow how far a pixel may be off: their shares of it, and
# the least of them
WIDTH_SHARES, LEAST_WIDTH = (0.5, 2.0), 0.003
FLAT_SHARE, LEAST_FLAT = 1.5, 1e-4
CLIP_SHARE = 2.0
EDGE = 2  # pixels to each side that an edge's direction is measured over
AROUND = max(RADII)  # pixels around a part of a picture that its terms depend on


def _rings(radii: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    points = set()
    for ring, radius in enumerate(radii):
        for step in range(16):
            angle = math.pi * (2 * step + ring % 2) / 16
            points.add((round(radius * math.sin(angle)), round(radius * math.cos(angle))))
    return tuple(sorted(points))


RINGS, NEAR_RINGS = _rings(RADII), _rings(NEAREST)  # rows, columns


def to_planes(x: Tensor) -> Tensor:
    """Planes (3, H, W), around middle gray, of R, G and B in [0, 1]."""
    return torch.tensordot(torch.from_numpy(PLANES).to(x), x - 0.5, dims=1)


def to_colours(planes: Tensor) -> Tensor:
    """What planes (3, H, W) add to R, G and B."""
    return torch.tensordot(torch.from_numpy(PLANES.T.copy()).to(planes), planes, dims=1)


class Drawn:
    """A drawn picture as terms see it."""

    def __init__(self, x_hat: Tensor, deviation: Tensor) -> None:
        """R, G and B (3, H, W) in [0, 1], and how far pixels may be expected to be off (H, W)."""
        self.x_hat, self.deviation = x_hat, deviation

    @functools.cached_property
    def planes(self) -> Tensor:
        """(3, H, W): ``to_planes``."""
        return to_planes(self.x_hat).contiguous()

    @functools.cached_property
    def padded(self) -> Tensor:
        """Planes with REACH pixels around them."""
        return F.pad(self.planes[None], [REACH] * 4, mode="replicate")[0]

    def cut(self, rows: slice, columns: slice) -> Drawn:
        """A part of it, whose border pixels are the last ones."""
        return Drawn(self.x_hat[:, rows, columns], self.deviation[rows, columns])

    @functools.cached_property
    def contrast(self) -> Tensor:
        """Standard deviation (H, W) of the brightness around each pixel."""
        x = self.planes[0]
        mean, of_squares = box_mean(torch.stack([x, x * x]), CONTRAST)
        return (of_squares - mean * mean).clamp_(min=0).sqrt_()

    @functools.cached_property
    def similar(self) -> Tensor:
        """Differences (2, 3, H, W) to the means of similar pixels, for each of WIDTHS: a bilateral
        filter ([Tomasi1998] doi:10.1109/ICCV.1998.710815)."""
        widths = self.planes.new_tensor(WIDTHS)[:, None, None]
        return bilateral(self.planes, RINGS, widths.expand(2, *self.planes.shape[1:]))

    @functools.cached_property
    def similar_by_error(self) -> Tensor:
        """The same with widths by ``deviation``."""
        return bilateral(self.planes, RINGS, self._widths_by_error)

    @functools.cached_property
    def near_by_error(self) -> Tensor:
        """The same of the nearest pixels."""
        return bilateral(self.planes, NEAR_RINGS, self._widths_by_error)

    @functools.cached_property
    def _widths_by_error(self) -> Tensor:
        return torch.stack([share * self.deviation + LEAST_WIDTH for share in WIDTH_SHARES])

    @functools.cached_property
    def guided(self) -> Tensor:
        """Differences (3, H, W) to planes as lines over the brightness tell them: a guided filter
        ([He2013] doi:10.1109/TPAMI.2012.213)."""
        return self._guided(FLAT)

    @functools.cached_property
    def guided_by_error(self) -> Tensor:
        """The same, smoothing within FLAT_SHARE of ``deviation``."""
        return self._guided(FLAT_SHARE * self.deviation + LEAST_FLAT)

    @functools.cached_property
    def _lines(self) -> tuple[Tensor, Tensor, Tensor]:
        """Means (3, H, W) of planes, their covariances with the brightness, its variance."""
        guide = self.planes[:1]
        mean, product = box_mean(torch.cat([self.planes, self.planes * guide]), GUIDED).chunk(2)
        variance = (product[:1] - mean[:1] * mean[:1]).clamp_(min=0)
        return mean, product - mean * mean[:1], variance

    def _guided(self, flat: Tensor | float) -> Tensor:
        guide, (mean, covariance, variance) = self.planes[:1], self._lines
        slope = covariance / (variance + flat**2)
        slope, level = box_mean(torch.cat([slope, mean - slope * mean[:1]]), GUIDED).chunk(2)
        return slope * guide + level - self.planes

    @functools.cached_property
    def across(self) -> Tensor:
        """Cosine and sine (2, H, W) of twice the angle at which brightness changes most, by the
        structure tensor around each pixel."""
        at = functools.partial(_moved, self.padded[0])
        right, down = at(0, 1) - at(0, -1), at(1, 0) - at(-1, 0)
        tensor = box_mean(torch.stack([right * right, down * down, right * down]), EDGE)
        double = torch.stack([tensor[0] - tensor[1], 2 * tensor[2]])
        return double / (double.square().sum(dim=0).sqrt() + 1e-6)

    @functools.cached_property
    def steered(self) -> tuple[Tensor, ...]:
        """Second differences (3, H, W) over 1 and over 2 pixels, across edges of the brightness
        less those along them."""
        at = functools.partial(_moved, self.padded)
        cosine, sine = self.across
        found = []
        for s in (1, 2):
            straight = at(0, s) + at(0, -s) - at(s, 0) - at(-s, 0)
            diagonal = (at(s, s) + at(-s, -s) - at(s, -s) - at(-s, s)) / 2
            found.append(cosine * straight + sine * diagonal)
        return tuple(found)


def _moved(padded: Tensor, dy: int, dx: int) -> Tensor:
    """The pixels (..., H, W) at an offset, of planes with REACH pixels around them."""
    height, width = (side - 2 * REACH for side in padded.shape[-2:])
    return padded[..., REACH + dy : REACH + dy + height, REACH + dx : REACH + dx + width]


Term = Callable[[Drawn, int], Tensor]  # of one of the planes: (H, W)


def _ring(*offsets: tuple[int, int], clip: float = math.inf, of: int | None = None) -> Term:
    """Differences to the neighbours at ``offsets`` and opposite to them, each within ``clip``."""

    def within(difference: Tensor) -> Tensor:
        return difference if clip == math.inf else difference.clamp_(-clip, clip)

    return lambda drawn, own: _differences(drawn, own if of is None else of, offsets, within)


def _ring_by_error(*offsets: tuple[int, int]) -> Term:
    """The same within CLIP_SHARE of the deviation."""

    def term(drawn: Drawn, own: int) -> Tensor:
        clip = CLIP_SHARE * drawn.deviation
        return _differences(drawn, own, offsets, lambda d: d.clamp_(-clip, clip))

    return term


def _differences(
    drawn: Drawn,
    of: int,
    offsets: tuple[tuple[int, int], ...],
    within: Callable[[Tensor], Tensor],
) -> Tensor:
    plane, padded = drawn.planes[of], drawn.padded[of]
    total = torch.zeros_like(plane)
    for dy, dx in (*offsets, *((-dy, -dx) for dy, dx in offsets)):
        total += within(_moved(padded, dy, dx) - plane)
    return total


def _by_contrast(term: Term) -> Term:
    return lambda drawn, own: 4 * drawn.contrast * term(drawn, own)


def _value(of: int) -> Term:
    return lambda drawn, own: drawn.planes[of]


_NEXT, _SECOND, _DIAGONAL = ((0, 1), (1, 0)), ((0, 2), (2, 0)), ((1, 1), (1, -1))
_BRIGHTNESS: tuple[Term, ...] = (
    *(_ring(*_NEXT, clip=clip) for clip in (math.inf, 0.08, 0.01)),
    *(_ring(*_SECOND, clip=clip) for clip in (math.inf, 0.08, 0.01)),
    _ring(*_DIAGONAL, clip=0.08),
    *(_by_contrast(_ring(*_SECOND, clip=clip)) for clip in (math.inf, 0.08)),
)
_SMOOTH: tuple[Term, ...] = (
    lambda drawn, own: drawn.similar[0, own],
    lambda drawn, own: drawn.similar[1, own],
    lambda drawn, own: drawn.guided[own],
)
_SMOOTH_BRIGHTNESS: tuple[Term, ...] = (
    lambda drawn, own: drawn.similar[0, 0],
    lambda drawn, own: drawn.guided[0],
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


_BY_ERROR: tuple[Term, ...] = (
    lambda drawn, own: drawn.similar_by_error[0, own],
    lambda drawn, own: drawn.similar_by_error[1, own],
    lambda drawn, own: drawn.guided_by_error[own],
    _ring_by_error(*_NEXT),
    _ring_by_error(*_SECOND),
    lambda drawn, own: drawn.near_by_error[0, own],
    lambda drawn, own: drawn.near_by_error[1, own],
)
_BRIGHTNESS_BY_ERROR: tuple[Term, ...] = (
    lambda drawn, own: drawn.similar_by_error[0, 0],
    lambda drawn, own: drawn.similar_by_error[1, 0],
    lambda drawn, own: drawn.guided_by_error[0],
)
_ACROSS: tuple[Term, ...] = (
    lambda drawn, own: drawn.steered[0][own],
    lambda drawn, own: drawn.steered[1][own],
)
_STEERED = (*_ACROSS, *map(_by_contrast, _ACROSS))
# of each plane, in the order in which they came: so what an old file lacks is at its end
_BATCHES: tuple[tuple[tuple[Term, ...], ...], ...] = (
    (_BRIGHTNESS, _colour(2), _colour(1)),
    (_SMOOTH, (*_SMOOTH, *_SMOOTH_BRIGHTNESS), (*_SMOOTH, *_SMOOTH_BRIGHTNESS)),
    (_STEERED,) * 3,
    (_BY_ERROR, *((*_BY_ERROR, *_BRIGHTNESS_BY_ERROR),) * 2),
)
TERMS = tuple(tuple(itertools.chain(*of_plane)) for of_plane in zip(*_BATCHES, strict=True))


def _order() -> Iterator[tuple[int, int]]:
    counts = [0] * len(TERMS)
    for batch in _BATCHES:
        for own, terms in enumerate(batch):
            first, counts[own] = counts[own], counts[own] + len(terms)
            yield from ((own, at) for at in range(first, counts[own]))


ORDER = tuple(_order())  # of the numbers in a file: plane and term
