"""Quality that meets a target of rate or distortion.

Every try is a whole encoding: g_a depends on the quality, so latents made once would give worse
files than the same quality asked for by name. Few tries are needed, as both the logarithm of the
size and PSNR are nearly straight lines over quality.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

from mambaic.container.fields import stored_quality
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

    def encode(self, image: Picture, quality: float, **options: Any) -> bytes: ...

    def decode_picture(self, data: bytes) -> Picture: ...


def encode_to_target(
    codec: PictureCodec,
    picture: Picture,
    *,
    bpp: float | None = None,
    size: float | None = None,
    psnr: float | None = None,
    **options: Any,
) -> bytes:
    """File whose rate is within 1 % of ``bpp`` (bits per pixel) or ``size`` (bytes), or whose
    PSNR is within 0.05 dB of ``psnr``; the nearest one where quality has no finer step.

    Raises ConfigError if no quality from 0 to 100 gets there.
    """
    if sum(value is not None for value in (bpp, size, psnr)) != 1:
        raise ConfigError("give exactly one of bpp, size and psnr")
    if psnr is not None:

        def measure(data: bytes) -> float:
            return psnr_db(picture.pixels, codec.decode_picture(data).pixels)

        def describe(value: float) -> str:
            return f"{value:.2f} dB"

        goal, tolerance, slope = psnr, PSNR_TOLERANCE_DB, DB_PER_QUALITY
    else:
        pixels = picture.size[0] * picture.size[1]
        n_bytes = size if size is not None else (bpp or 0.0) * pixels / 8

        def measure(data: bytes) -> float:
            return math.log(len(data))

        goal, tolerance = math.log(max(n_bytes, 1.0)), math.log1p(SIZE_TOLERANCE)
        slope = LOG_BYTES_PER_QUALITY

        def describe(value: float) -> str:
            return f"{math.exp(value):.0f} bytes"

    def attempt(settings: dict[str, Any], quality: float) -> tuple[float, bytes]:
        data = codec.encode(picture, quality, **settings)
        return measure(data), data

    first = FIRST_QUALITY
    if options.get("refine"):
        # unrefined tries cost next to nothing beside refined ones, and end a step or two away
        unrefined = partial(attempt, options | {"refine": 0, "progress": None})
        first = _search(unrefined, goal, tolerance, slope, first).quality
    found = _search(partial(attempt, options), goal, tolerance, slope, first)
    if not found.within_reach:
        raise ConfigError(
            f"the target is out of reach: at quality {found.quality:g} this picture has "
            f"{describe(found.value)}"
        )
    return found.data


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
