"""The measures of distortion that a report knows, each defined once: how it is computed, called
and drawn. Higher is better in all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from mambaic.errors import ConfigError
from mambaic.extras import require
from mambaic.imaging.metrics import ms_ssim, psnr_db
from mambaic.imaging.ssimulacra2 import ssimulacra2

CVVDP_MIN_SIDE = 8  # pixels
CVVDP_DISPLAY = "standard_4k"  # 30 inches, 3840x2160, seen from 0.75 m


@dataclass(frozen=True)
class Metric:
    """``field`` of a point and column of a CSV; ``key`` in CompressAI's layout; ``axis`` with the
    unit of a curve, whose values are ``of_mean`` of the mean over pictures; ``compute`` returns
    None where the metric has no value."""

    field: str
    key: str
    name: str
    axis: str
    decimals: int
    compute: Callable[[np.ndarray, np.ndarray], float | None]
    of_mean: Callable[[float], float] = float


def _psnr(reference: np.ndarray, decoded: np.ndarray) -> float | None:
    value = psnr_db(reference, decoded)
    return value if math.isfinite(value) else None


def _similarity_db(ms_ssim: float) -> float:
    return -10 * math.log10(max(1e-9, 1 - ms_ssim))


def cvvdp(reference: np.ndarray, decoded: np.ndarray) -> float | None:
    """ColorVideoVDP of two (H, W, 3) uint8 pictures in JOD, 10 for equal ones, one less for what
    three of four people would notice; None for tiny pictures."""
    if min(reference.shape[:2]) < CVVDP_MIN_SIDE:
        return None
    score, _ = _cvvdp_model().predict(decoded, reference, dim_order="HWC")
    return float(score)


@lru_cache(maxsize=1)
def _cvvdp_model() -> Any:
    import warnings

    import torch

    require("cvvdp")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pycvvdp

        return pycvvdp.cvvdp(display_name=CVVDP_DISPLAY, device=torch.device("cpu"))


PSNR = Metric("psnr_db", "psnr-rgb", "PSNR", "PSNR-RGB (dB)", 3, _psnr)
MS_SSIM = Metric("ms_ssim", "ms-ssim-rgb", "MS-SSIM", "MS-SSIM (dB)", 4, ms_ssim, _similarity_db)
SSIMULACRA2 = Metric("ssimulacra2", "ssimulacra2", "SSIMULACRA2", "SSIMULACRA2", 2, ssimulacra2)
CVVDP = Metric("cvvdp", "cvvdp", "CVVDP", "CVVDP (JOD)", 3, cvvdp)
METRICS = (PSNR, MS_SSIM, SSIMULACRA2, CVVDP)
OPTIONAL = {"cvvdp": CVVDP}


def chosen(options: Iterable[str]) -> tuple[Metric, ...]:
    """The metrics of every report and the optional ones asked for.

    Raises ConfigError for one that is unknown, MissingPackage for one that is not installed.
    """
    asked = [name for name in options if name]
    for name in asked:
        if name not in OPTIONAL:
            raise ConfigError(f"metric {name!r} is not one of {', '.join(OPTIONAL)}")
        require(name)
    return tuple(m for m in METRICS if m.field in asked or m.field not in OPTIONAL)
