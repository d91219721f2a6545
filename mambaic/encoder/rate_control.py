"""Quality that meets a target of rate or distortion.

Every try is a whole encoding: g_a depends on the quality, so latents made once would give worse
files than the same quality asked for by name. Few tries are needed, as both the logarithm of the
size and PSNR are nearly straight lines over quality.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal, NamedTuple, Protocol

from mambaic.container.fields import stored_quality
from mambaic.encoder.effort import UNREFINED
from mambaic.encoder.options import EncodeOptions
from mambaic.encoder.picture_encoder import EncodedPicture, Progress
from mambaic.errors import ConfigError
from mambaic.imaging.image import Picture
from mambaic.imaging.metrics import psnr_db

SIZE_TOLERANCE = 0.01
PSNR_TOLERANCE_DB = 0.05
FIRST_QUALITY = 50.0
# how much a step of quality changes a photograph: only the second try depends on it
LOG_BYTES_PER_QUALITY = 0.031
DB_PER_QUALITY = 0.15
MAX_TRIES = 24


class PictureCodec(Protocol):
    """What the search needs of a ``Codec``, which is made of this room and so stands above it."""

    def encode_picture(
        self, picture: Picture, options: EncodeOptions, progress: Progress | None
    ) -> EncodedPicture: ...

    def decode_picture(self, data: bytes) -> Picture: ...


class Target(NamedTuple):
    """``value`` bits per pixel, bytes, or decibels."""

    unit: Literal["bpp", "size", "psnr"]
    value: float


class _Measure(NamedTuple):
    """A goal on a scale that is nearly straight over quality: what a file measures there, how it is
    said, the tolerance, and the slope per step of quality."""

    of: Callable[[bytes], float]
    say: Callable[[float], str]
    goal: float
    tolerance: float
    slope: float


def encode_to_target(
    codec: PictureCodec,
    picture: Picture,
    target: Target,
    options: EncodeOptions,
    progress: Progress | None = None,
) -> bytes:
    """File whose rate is within 1 % of a target in bits per pixel or bytes, or whose PSNR is within
    0.05 dB of one in decibels; the nearest one where quality has no finer step.

    The quality of ``options`` is not used. Raises ConfigError if no quality from 0 to 100 gets
    there.
    """
    measure = _measure(codec, picture, target)

    def attempt(settings: EncodeOptions, quality: float) -> tuple[float, bytes]:
        told = progress if settings.effort == options.effort else None
        data = codec.encode_picture(picture, replace(settings, quality=quality), told).data
        return measure.of(data), data

    scale = measure.goal, measure.tolerance, measure.slope
    first = FIRST_QUALITY
    if options.tools.refinement:
        # unrefined tries cost next to nothing beside refined ones, and end a step or two away
        unrefined = replace(options, effort=UNREFINED)
        first = _search(partial(attempt, unrefined), *scale, first).quality
    found = _search(partial(attempt, options), *scale, first)
    if not found.within_reach:
        raise ConfigError(
            f"the target is out of reach: at quality {found.quality:g} this picture has "
            f"{measure.say(found.value)}"
        )
    return found.data


def _measure(codec: PictureCodec, picture: Picture, target: Target) -> _Measure:
    if target.unit == "psnr":
        return _Measure(
            of=lambda data: psnr_db(picture.pixels, codec.decode_picture(data).pixels),
            say=lambda value: f"{value:.2f} dB",
            goal=target.value,
            tolerance=PSNR_TOLERANCE_DB,
            slope=DB_PER_QUALITY,
        )
    pixels = picture.size[0] * picture.size[1]
    n_bytes = target.value if target.unit == "size" else target.value * pixels / 8
    return _Measure(
        of=lambda data: math.log(len(data)),
        say=lambda value: f"{math.exp(value):.0f} bytes",
        goal=math.log(max(n_bytes, 1.0)),
        tolerance=math.log1p(SIZE_TOLERANCE),
        slope=LOG_BYTES_PER_QUALITY,
    )


class _Found(NamedTuple):
    """The try nearest to the goal; ``within_reach`` if it meets it or tries lie on both sides."""

    quality: float
    value: float
    data: bytes
    within_reach: bool


def _search(
    attempt: Callable[[float], tuple[float, bytes]],
    goal: float,
    tolerance: float,
    slope: float,
    first: float,
) -> _Found:
    """Along ``slope`` from the quality ``first`` until tries lie on both sides of the goal, then
    between the two nearest."""
    tries: dict[float, tuple[float, bytes]] = {}
    below = above = None
    quality = first
    while quality not in tries and len(tries) < MAX_TRIES:
        value, data = tries[quality] = attempt(quality)
        if abs(value - goal) <= tolerance:
            return _Found(quality, value, data, within_reach=True)
        below = max((q for q, (v, _) in tries.items() if v < goal), default=None)
        above = min((q for q, (v, _) in tries.items() if v > goal), default=None)
        if below is None or above is None:
            # a little too far, so that the goal lies between two tries; farther each time
            step = 1.05 * (goal - value) / slope
            step = math.copysign(max(abs(step), 2.0 ** (len(tries) - 1)), step)
            quality = min(100.0, max(0.0, quality + step))
        else:
            share = (goal - tries[below][0]) / (tries[above][0] - tries[below][0])
            # plain bisection every third time, in case interpolation creeps along one end
            share = 0.5 if len(tries) % 3 == 2 and len(tries) > 4 else min(0.95, max(0.05, share))
            quality = below + (above - below) * share
        quality = stored_quality(quality)
    nearest = min(tries, key=lambda q: abs(tries[q][0] - goal))
    within_reach = below is not None and above is not None
    return _Found(nearest, *tries[nearest], within_reach=within_reach)
