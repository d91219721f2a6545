"""One measurement: an image through one codec at one quality, by the bytes of a real file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from mambaic.codec import Codec
from mambaic.encoder.options import EncodeOptions
from mambaic.evaluation.rivals import Rival
from mambaic.imaging.image import Picture, to_pil
from mambaic.imaging.metrics import bpp_from_bytes, ms_ssim, psnr_db


@dataclass(frozen=True)
class Point:
    """Rates in bits per original pixel, PSNR over RGB in dB, times in seconds.

    ``ms_ssim`` is None for images too small for it, ``estimated_bpp`` for codecs that do not
    estimate.
    """

    image: str
    codec: str
    quality: float
    width: int
    height: int
    bytes: int
    bpp: float
    psnr_db: float
    ms_ssim: float | None
    encode_s: float
    decode_s: float
    estimated_bpp: float | None = None


class Contender(Protocol):
    """What is measured: a name, its qualities, and how it codes."""

    @property
    def name(self) -> str: ...

    @property
    def qualities(self) -> Sequence[float]: ...

    @property
    def library(self) -> str:
        """What codes, with its version."""

    def encode(self, picture: Picture, quality: float) -> tuple[bytes, float | None]:
        """(file, estimated bits or None)."""

    def decode(self, data: bytes) -> Image.Image: ...


@dataclass(frozen=True)
class OurContender:
    """A mambaic checkpoint."""

    name: str
    qualities: Sequence[float]
    codec: Codec
    library: str
    refine: int = 0

    def encode(self, picture: Picture, quality: float) -> tuple[bytes, float | None]:
        options = EncodeOptions(quality=quality, refine=self.refine)
        encoded = self.codec.encode_picture(picture, options)
        return encoded.data, encoded.estimated_bits

    def decode(self, data: bytes) -> Image.Image:
        return self.codec.decode(data)


@dataclass(frozen=True)
class RivalContender:
    """A codec of another library."""

    rival: Rival

    @property
    def name(self) -> str:
        return self.rival.name

    @property
    def qualities(self) -> Sequence[float]:
        return self.rival.qualities

    @property
    def library(self) -> str:
        return self.rival.library

    def encode(self, picture: Picture, quality: float) -> tuple[bytes, float | None]:
        return self.rival.encode(to_pil(picture), quality), None

    def decode(self, data: bytes) -> Image.Image:
        return self.rival.decode(data)


def measure(name: str, picture: Picture, contender: Contender, quality: float) -> Point:
    """Encode, decode and compare one picture of plain RGB pixels."""
    started = time.perf_counter()
    data, bits = contender.encode(picture, quality)
    encoded = time.perf_counter()
    decoded = np.asarray(contender.decode(data).convert("RGB"))
    ended = time.perf_counter()
    width, height = picture.size
    return Point(
        image=name,
        codec=contender.name,
        quality=quality,
        width=width,
        height=height,
        bytes=len(data),
        bpp=bpp_from_bytes(len(data), width, height),
        psnr_db=psnr_db(picture.pixels, decoded),
        ms_ssim=ms_ssim(picture.pixels, decoded),
        encode_s=encoded - started,
        decode_s=ended - encoded,
        estimated_bpp=None if bits is None else bits / (width * height),
    )


def at_size(encode: Callable[[float], bytes], n_bytes: int, low: float, high: float) -> bytes:
    """The largest file of at most ``n_bytes`` over qualities [low, high], to 1/64 of the range;
    the smallest file if none fits."""
    best = encode(low)
    for _ in range(6):
        middle = (low + high) / 2
        data = encode(middle)
        if len(data) <= n_bytes:
            low, best = middle, data
        else:
            high = middle
    return best
