"""A drawn picture as the terms of the post-filter see it: what is around each of its pixels.

Format section: docs/format.md, "Filter".
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mambaic.colours import to_planes
from mambaic_kernels.smooth import bilateral, box_mean

REACH = 2  # pixels to each side whose differences count
AVERAGED = 3  # pixels to each side that contrast and brightness are measured over
# what maps are weighed by
PLAIN, ERROR, ERROR2, RATIO = "plain", "error", "error2", "ratio"
CONTRAST, COLOUR_CONTRAST, SATURATION = "contrast", "colour contrast", "saturation"
BRIGHTNESS, BRIGHTNESS2 = "brightness", "brightness2"
FIRST, SECOND = "first colour", "second colour"
# Similar pixels are looked for on rings of 16, each turned by half a step against the one before;
# how similar: the differences of colours at which a pixel counts much and little
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
AROUND = max(RADII)  # pixels around a part of a picture that its terms depend on
STRIP = 1 << 14  # pixels whose terms are made at a time on CPUs: maps of them stay in the cache
# what strips of a picture have from the whole; terms are made of it by pixels at most REACH away
FEATURES = (
    *("planes", "contrast", "factors", "across", "squares", "guided", "guided_by_error"),
    *("similar", "similar_by_error", "near_by_error"),
)


def _rings(radii: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    points = set()
    for ring, radius in enumerate(radii):
        for step in range(16):
            angle = math.pi * (2 * step + ring % 2) / 16
            points.add((round(radius * math.sin(angle)), round(radius * math.cos(angle))))
    return tuple(sorted(points))


RINGS, NEAR_RINGS = _rings(RADII), _rings(NEAREST)  # rows, columns


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

    def strips(self) -> list[tuple[slice, Drawn]]:
        """Rows, and the picture there, whose terms are those of the whole."""
        height, width = self.deviation.shape
        step = max(1, STRIP // width) if self.deviation.device.type == "cpu" else height
        rows = [slice(top, min(top + step, height)) for top in range(0, height, step)]
        return [(of, self._strip(of)) for of in rows]

    def _strip(self, rows: slice) -> Drawn:
        strip = self.cut(rows, slice(None))
        known = {name: _rows(getattr(self, name), rows) for name in FEATURES}
        known["padded"] = self.padded[:, rows.start : rows.stop + 2 * REACH]
        vars(strip).update(known)  # where cached properties look first
        return strip

    @functools.cached_property
    def contrast(self) -> Tensor:
        """Standard deviation (H, W) of the brightness around each pixel."""
        x = self.planes[0]
        mean, of_squares = box_mean(torch.stack([x, x * x]), AVERAGED)
        return (of_squares - mean * mean).clamp_(min=0).sqrt_()

    @functools.cached_property
    def factors(self) -> dict[str, Tensor | float]:
        """What maps are weighed by (H, W), by name; about 1 in size."""
        brightness = box_mean(self.planes[:1], AVERAGED)[0]
        colours = self.planes[1:]
        means = box_mean(torch.cat([colours, colours * colours]), AVERAGED)
        variances = (means[2:] - means[:2] * means[:2]).clamp_(min=0)
        error = 20 * self.deviation
        return {
            PLAIN: 1.0,
            ERROR: error,
            ERROR2: error * error,
            RATIO: self.deviation / (self.deviation + self.contrast + 1e-3),
            CONTRAST: 4 * self.contrast,
            COLOUR_CONTRAST: 6 * variances.sum(dim=0).sqrt_(),
            SATURATION: 4 * means[2:].sum(dim=0).sqrt_(),
            BRIGHTNESS: 2 * brightness,
            BRIGHTNESS2: 4 * brightness * brightness,
            FIRST: 4 * colours[0],
            SECOND: 4 * colours[1],
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
    def guided(self) -> Tensor:
        """Differences (3, H, W) to planes as lines over the brightness tell them: a guided filter
        ([He2013] doi:10.1109/TPAMI.2012.213)."""
        return self._guided(FLAT)

    @functools.cached_property
    def guided_by_error(self) -> tuple[Tensor, ...]:
        """The same, smoothing within FLAT_SHARES of ``deviation``."""
        return tuple(self._guided(share * self.deviation + LEAST_FLAT) for share in FLAT_SHARES)

    @functools.cached_property
    def squares(self) -> tuple[Tensor, ...]:
        """Differences (3, H, W) to the means over SQUARES."""
        return tuple(box_mean(self.planes, radius) - self.planes for radius in SQUARES)

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


def _rows(feature: Any, rows: slice) -> Any:
    """Of a map or some maps (..., H, W), those rows; what is no map as it is."""
    if isinstance(feature, Tensor):
        return feature[..., rows, :]
    if isinstance(feature, dict):
        return {name: _rows(part, rows) for name, part in feature.items()}
    return tuple(_rows(part, rows) for part in feature) if isinstance(feature, tuple) else feature
