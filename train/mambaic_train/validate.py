"""Validation on held-out photographs by real files: rates of files, errors of 8-bit decodes."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mambaic.codec import Codec
from mambaic.config import ModelConfig
from mambaic.container.fields import bpp_from_bytes
from mambaic.encoder.options import EncodeOptions
from mambaic.errors import ConfigError, ImageError
from mambaic.evaluation.run import plain
from mambaic.imaging.image import Picture, read_image
from mambaic.imaging.metrics import ms_ssim, psnr_db
from mambaic.imaging.ssimulacra2 import ssimulacra2
from mambaic.imaging.suffixes import IMAGE_SUFFIXES
from mambaic_train.config import TrainConfig
from mambaic_train.loss import MS_SSIM_WEIGHT, eye_distortion

log = logging.getLogger(__name__)

QUALITIES = (5.0, 15.0, 30.0, 45.0, 60.0, 75.0, 90.0, 100.0)
QUICK_QUALITIES = (10.0, 50.0, 90.0)  # while training goes on


class RDPoint(NamedTuple):
    """Means over the validation images at one quality."""

    quality: float
    bpp: float
    estimated_bpp: float
    psnr_db: float
    ms_ssim: float  # NaN if no image is large enough for it
    ssimulacra2: float = math.nan  # the same


def validation_pictures(folder: Path) -> list[Picture]:
    """Readable images of a folder, or one image. Raises ConfigError if there is none."""
    paths = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
    pictures = []
    for path in paths:
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        try:
            pictures.append(plain(read_image(path)))
        except ImageError as exc:
            log.warning("%s: not measured", exc)
    if not pictures:
        raise ConfigError(f"{folder}: no image to validate on")
    return pictures


def rd_points(
    codec: Codec,
    pictures: Sequence[Picture],
    qualities: Sequence[float] = QUALITIES,
    tune: float = 0.0,
) -> list[RDPoint]:
    """Mean bpp (of files) and what 8-bit decodes measure at every quality."""
    points = []
    for quality in qualities:
        rows = []
        for picture in pictures:
            encoded = codec.encode_picture(picture, EncodeOptions(quality=quality, tune=tune))
            data, bits = encoded.data, encoded.estimated_bits
            decoded = codec.decode_picture(data)
            pixels = picture.size[0] * picture.size[1]
            psnr = psnr_db(picture.pixels, decoded.pixels)
            rate = bpp_from_bytes(len(data), *picture.size)
            seen = [of(picture.pixels, decoded.pixels) for of in (ms_ssim, ssimulacra2)]
            rows.append((rate, bits / pixels, psnr, *seen))
        points.append(RDPoint(quality, *(_mean(column) for column in zip(*rows, strict=True))))
    return points


def _mean(values: Sequence[float | None]) -> float:
    """Of those that there are; NaN if there are none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else math.nan


def score(points: Sequence[RDPoint], model: ModelConfig, train: TrainConfig) -> float:
    """The training loss of measured points: lower is better, comparable within one run. NaN for
    MS-SSIM or SSIMULACRA2 on images that are too small for it."""
    total = 0.0
    for point in points:
        lmbda = model.lmbda(point.quality) if train.lmbda is None else train.lmbda
        mse = 10 ** (-point.psnr_db / 10)
        distortion = 255**2 * mse
        if train.metric == "ms-ssim":
            distortion = MS_SSIM_WEIGHT * (1 - point.ms_ssim)
        elif train.metric == "eye":
            distortion = eye_distortion(point.ssimulacra2, point.ms_ssim, mse, lmbda, model)
        loss = point.bpp + lmbda * distortion
        total += loss * (lmbda / model.lmbda(50.0)) ** train.weighting
    return total / len(points)
