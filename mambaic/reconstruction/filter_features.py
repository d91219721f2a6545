"""Features of a reconstruction for the post-filter: what surrounds each of its pixels.

Format section: docs/format.md, "Filter".
"""

from __future__ import annotations

import enum
import functools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from mambaic.imaging.colour_axes import to_planes
from mambaic_kernels.filter_taps.scene import Scene
from mambaic_kernels.smoothing.reference import bilateral, box_mean

REACH = 2  # pixels to each side whose differences count
AVERAGED = 3  # pixels to each side that contrast and brightness are measured over
# Similar pixels are taken from rings of 16, each rotated by half a step against the one before;
# WIDTHS are colour differences at which a pixel counts much and little
RADII = (2, 3, 4, 5, 6, 7, 9, 11, 13, 16, 19, 22, 26, 30)
WIDTHS = (0.04, 0.09)
NEAREST = (1, 2, 3, 4)  # rings of their own
# pixels to each side, and the standard deviation within which the guided filter smooths
GUIDED, FLAT = 6, 0.03
# Where widths and that deviation follow how far a pixel may be off: their shares of it, and
# the least of them
WIDTH_SHARES, LEAST_WIDTH = (0.5, 2.0), 0.003
FLAT_SHARES, LEAST_FLAT = (0.7, 1.5), 1e-4
SQUARES = (2, 4, 8)  # pixels to each side that plain means are taken over
EDGE = 2  # pixels to each side that an edge's direction is measured over
AROUND = max(RADII)  # pixels around a part of a picture that its taps depend on
CONSTANT = 0.125


class Source(enum.IntEnum):
    """Maps that exist for every plane."""

    VALUE = 0
    CONSTANT = enum.auto()
    SIMILAR = enum.auto()
    SIMILAR_WIDE = enum.auto()
    BY_ERROR = enum.auto()
    BY_ERROR_WIDE = enum.auto()
    NEAR = enum.auto()
    NEAR_WIDE = enum.auto()
    GUIDED = enum.auto()
    GUIDED_TIGHT = enum.auto()
    GUIDED_LOOSE = enum.auto()
    SQUARE = enum.auto()
    SQUARE_WIDER = enum.auto()
    SQUARE_WIDEST = enum.auto()
    ACROSS = enum.auto()
    ACROSS_WIDE = enum.auto()

    def of(self, plane: int) -> int:
        """Where it is among the maps of a scene."""
        return 3 * self + plane


class Factor(enum.IntEnum):
    """What maps are weighted_sums by."""

    PLAIN = 0
    ERROR = enum.auto()
    ERROR2 = enum.auto()
    RATIO = enum.auto()
    CONTRAST = enum.auto()
    COLOUR_CONTRAST = enum.auto()
    SATURATION = enum.auto()
    BRIGHTNESS = enum.auto()
    BRIGHTNESS2 = enum.auto()
    FIRST = enum.auto()
    SECOND = enum.auto()


def _rings(radii: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    points = set()
    for ring, radius in enumerate(radii):
        for step in range(16):
            angle = math.pi * (2 * step + ring % 2) / 16
            points.add((round(radius * math.sin(angle)), round(radius * math.cos(angle))))
    return tuple(sorted(points))


RINGS, NEAR_RINGS = _rings(RADII), _rings(NEAREST)  # rows, columns


class Reconstruction:
    """Output of g_s, and the features that taps are made of, computed when first needed."""

    def __init__(self, x_hat: Tensor, deviation: Tensor) -> None:
        """R, G and B (3, H, W) in [0, 1], and how far pixels may be expected to be off (H, W)."""
        self.x_hat, self.deviation = x_hat, deviation.contiguous()

    @functools.cached_property
    def planes(self) -> Tensor:
        """(3, H, W): ``to_planes``."""
        return to_planes(self.x_hat).contiguous()

    @functools.cached_property
    def padded(self) -> Tensor:
        """Planes with REACH pixels around them."""
        return F.pad(self.planes[None], [REACH] * 4, mode="replicate")[0]

    def cut(self, rows: slice, columns: slice) -> Reconstruction:
        """A part of it, whose border pixels are the last ones."""
        return Reconstruction(self.x_hat[:, rows, columns], self.deviation[rows, columns])

    @functools.cached_property
    def scene(self) -> Scene:
        """As kernels take it: of every ``Source`` the maps of all planes, and every ``Factor``."""
        shape = self.planes.shape
        constant = self.planes.new_full(shape[2:], CONSTANT).expand(shape)
        sources = {
            Source.VALUE: self.planes,
            Source.CONSTANT: constant,
            Source.SIMILAR: self.similar[0],
            Source.SIMILAR_WIDE: self.similar[1],
            Source.BY_ERROR: self.similar_by_error[0],
            Source.BY_ERROR_WIDE: self.similar_by_error[1],
            Source.NEAR: self.near_by_error[0],
            Source.NEAR_WIDE: self.near_by_error[1],
            Source.GUIDED: self.guided[0],
            Source.GUIDED_TIGHT: self.guided[1],
            Source.GUIDED_LOOSE: self.guided[2],
            Source.SQUARE: self.squares[0],
            Source.SQUARE_WIDER: self.squares[1],
            Source.SQUARE_WIDEST: self.squares[2],
            Source.ACROSS: self.steered[0],
            Source.ACROSS_WIDE: self.steered[1],
        }
        maps = [plane for source in Source for plane in sources[source]]
        factors = [self.factors[factor] for factor in Factor]
        return Scene(self.padded, maps, factors, self.deviation)

    @functools.cached_property
    def contrast(self) -> Tensor:
        """Standard deviation (H, W) of the brightness around each pixel."""
        x = self.planes[0]
        mean, of_squares = box_mean(torch.stack([x, x * x]), AVERAGED)
        return (of_squares - mean * mean).clamp_(min=0).sqrt_()

    @functools.cached_property
    def factors(self) -> dict[Factor, Tensor]:
        """What maps are weighted_sums by (H, W); about 1 in size."""
        brightness = box_mean(self.planes[:1], AVERAGED)[0]
        colours = self.planes[1:]
        means = box_mean(torch.cat([colours, colours * colours]), AVERAGED)
        variances = (means[2:] - means[:2] * means[:2]).clamp_(min=0)
        error = 20 * self.deviation
        return {
            Factor.PLAIN: torch.ones_like(error[0]).expand(error.shape),
            Factor.ERROR: error,
            Factor.ERROR2: error * error,
            Factor.RATIO: self.deviation / (self.deviation + self.contrast + 1e-3),
            Factor.CONTRAST: 4 * self.contrast,
            Factor.COLOUR_CONTRAST: 6 * variances.sum(dim=0).sqrt_(),
            Factor.SATURATION: 4 * means[2:].sum(dim=0).sqrt_(),
            Factor.BRIGHTNESS: 2 * brightness,
            Factor.BRIGHTNESS2: 4 * brightness * brightness,
            Factor.FIRST: 4 * colours[0],
            Factor.SECOND: 4 * colours[1],
        }

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
    def guided(self) -> tuple[Tensor, ...]:
        """Differences (3, H, W) to planes predicted linearly from the brightness: a guided filter
        ([He2013] doi:10.1109/TPAMI.2012.213), smoothing within FLAT and within FLAT_SHARES of
        ``deviation``."""
        guide = self.planes[:1]
        mean, product = box_mean(torch.cat([self.planes, self.planes * guide]), GUIDED).chunk(2)
        variance = (product[:1] - mean[:1] * mean[:1]).clamp_(min=0)
        covariance = product - mean * mean[:1]
        flats = [mean.new_tensor(FLAT)]
        flats += [share * self.deviation + LEAST_FLAT for share in FLAT_SHARES]
        both = mean.new_empty(2, *mean.shape)
        found = []
        for flat in flats:  # in place: on CPUs fresh memory takes as long as the arithmetic
            torch.div(covariance, variance + flat**2, out=both[0])
            torch.mul(both[0], mean[:1], out=both[1])
            torch.sub(mean, both[1], out=both[1])
            slope, level = box_mean(both.flatten(0, 1), GUIDED).chunk(2)
            found.append(torch.addcmul(level.sub_(self.planes), slope, guide))
        return tuple(found)

    @functools.cached_property
    def squares(self) -> tuple[Tensor, ...]:
        """Differences (3, H, W) to the means over SQUARES."""
        return tuple(box_mean(self.planes, radius) - self.planes for radius in SQUARES)

    @functools.cached_property
    def across(self) -> Tensor:
        """Cosine and sine (2, H, W) of twice the angle at which brightness changes most, by the
        structure tensor around each pixel."""
        at = functools.partial(moved, self.padded[0])
        right, down = at(0, 1) - at(0, -1), at(1, 0) - at(-1, 0)
        tensor = box_mean(torch.stack([right * right, down * down, right * down]), EDGE)
        double = torch.stack([tensor[0] - tensor[1], 2 * tensor[2]])
        return double / (double.square().sum(dim=0).sqrt() + 1e-6)

    @functools.cached_property
    def steered(self) -> tuple[Tensor, ...]:
        """Second differences (3, H, W) over 1 and over 2 pixels, across edges of the brightness
        less those along them."""
        at = functools.partial(moved, self.padded)
        cosine, sine = self.across
        found = []
        for s in (1, 2):
            straight = at(0, s) + at(0, -s) - at(s, 0) - at(-s, 0)
            diagonal = (at(s, s) + at(-s, -s) - at(s, -s) - at(-s, s)) / 2
            found.append(cosine * straight + sine * diagonal)
        return tuple(found)


def moved(padded: Tensor, dy: int, dx: int) -> Tensor:
    """The pixels (..., H, W) at an offset, of planes with REACH pixels around them."""
    height, width = (side - 2 * REACH for side in padded.shape[-2:])
    return padded[..., REACH + dy : REACH + dy + height, REACH + dx : REACH + dx + width]
