"""One measurement: an image through one codec at one quality, by the bytes of a real file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mambaic.container.fields import bpp_from_bytes
from mambaic.errors import ImageError
from mambaic.evaluation.contenders import Contender
from mambaic.evaluation.quality_metrics import METRICS, Metric
from mambaic.imaging.image import Picture


@dataclass(frozen=True)
class Point:
    """Rates in bits per original pixel, PSNR over RGB in dB, times in seconds.

    ``psnr_db`` is None for an exact copy, another metric where the image is too small for it or it
    was not asked for, ``estimated_bpp`` for codecs that do not estimate.
    """

    image: str
    codec: str
    setting: str
    quality: float
    width: int
    height: int
    bytes: int
    bpp: float
    psnr_db: float | None
    ms_ssim: float | None
    ssimulacra2: float | None
    cvvdp: float | None
    encode_s: float
    decode_s: float
    estimated_bpp: float | None = None

    def value(self, metric: Metric) -> float | None:
        found: float | None = getattr(self, metric.field)
        return found


def measure(
    name: str, picture: Picture, contender: Contender, quality: float, metrics: Sequence[Metric]
) -> Point:
    """Encode, decode and compare one picture of plain RGB pixels.

    Raises ImageError or another MambaICError where the codec cannot.
    """
    started = time.perf_counter()
    data, bits = contender.encode(picture, quality)
    encoded = time.perf_counter()
    decoded = np.asarray(contender.decode(data).convert("RGB"))
    ended = time.perf_counter()
    if decoded.shape != picture.pixels.shape:
        raise ImageError(f"decoded to {decoded.shape[1]}x{decoded.shape[0]} pixels")
    width, height = picture.size
    measured = [] if contender.times_only else metrics
    found = {m.field: m.compute(picture.pixels, decoded) for m in measured}
    return Point(
        image=name,
        codec=contender.name,
        setting=contender.setting,
        quality=float(quality),
        width=width,
        height=height,
        bytes=len(data),
        bpp=bpp_from_bytes(len(data), width, height),
        encode_s=encoded - started,
        decode_s=ended - encoded,
        estimated_bpp=None if bits is None else bits / (width * height),
        **{m.field: found.get(m.field) for m in METRICS},  # type: ignore[arg-type]
    )
