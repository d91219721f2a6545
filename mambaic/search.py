"""Quality that meets a target of rate or distortion."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mambaic.codec import Codec
from mambaic.errors import ConfigError
from mambaic.image import Picture

SIZE_TOLERANCE = 0.01
PSNR_TOLERANCE_DB = 0.05
MAX_TRIES = 20


def encode_to_target(
    codec: Codec,
    picture: Picture,
    *,
    bpp: float | None = None,
    size: float | None = None,
    psnr: float | None = None,
    **options: Any,
) -> bytes:
    """File whose rate is within 1 % of ``bpp`` (bits per pixel) or ``size`` (bytes), or whose
    PSNR is within 0.05 dB of ``psnr``.

    Both rise with quality, so the quality is bracketed and interpolated (regula falsi with
    bisection). Raises ConfigError if no quality from 0 to 100 gets there.
    """
    if sum(value is not None for value in (bpp, size, psnr)) != 1:
        raise ConfigError("give exactly one of bpp, size and psnr")
    if psnr is not None:
        goal, tolerance, unit = psnr, PSNR_TOLERANCE_DB, "dB"

        def measure(data: bytes) -> float:
            return _psnr_db(picture, codec.decode_picture(data))
    else:
        pixels = picture.size[0] * picture.size[1]
        n_bytes = size if size is not None else (bpp or 0.0) * pixels / 8
        # rates span two decades, so the search runs on their logarithm
        goal, tolerance, unit = math.log(max(n_bytes, 1.0)), math.log1p(SIZE_TOLERANCE), "log bytes"

        def measure(data: bytes) -> float:
            return math.log(len(data))

    return _search(
        lambda quality: codec.encode(picture, quality, **options), measure, goal, tolerance, unit
    )


def _search(
    encode: Callable[[float], bytes],
    measure: Callable[[bytes], float],
    goal: float,
    tolerance: float,
    unit: str,
) -> bytes:
    ends = []
    for quality in (0.0, 100.0):
        data = encode(quality)
        value = measure(data)
        if abs(value - goal) <= tolerance:
            return data
        ends.append((quality, value, data))
    (low, low_value, low_data), (high, high_value, high_data) = ends
    if not low_value < goal < high_value:
        reach = [f"{len(low_data)} to {len(high_data)} bytes"]
        if unit == "dB":
            reach = [f"{low_value:.2f} to {high_value:.2f} dB"]
        raise ConfigError(f"the target is out of reach: this picture can have {reach[0]}")
    for attempt in range(MAX_TRIES):
        share = (goal - low_value) / (high_value - low_value)
        # plain bisection every third time, in case interpolation creeps along one end
        quality = low + (high - low) * (0.5 if attempt % 3 == 2 else min(0.95, max(0.05, share)))
        data = encode(quality)
        value = measure(data)
        if abs(value - goal) <= tolerance or high - low < 0.02:
            return data
        if value < goal:
            low, low_value = quality, value
        else:
            high, high_value = quality, value
    return data


def _psnr_db(a: Picture, b: Picture) -> float:
    mse = float(np.mean((a.pixels.astype(np.float64) - b.pixels.astype(np.float64)) ** 2))
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)
