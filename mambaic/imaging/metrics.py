"""Distortion, rate and Bjontegaard-delta rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from einops import rearrange

from mambaic.extras import require

MS_SSIM_MIN_SIDE = 161  # five scales of an 11-pixel window


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR of two uint8 arrays over all values, in dB; infinite if they are equal."""
    mse = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def ms_ssim(a: np.ndarray, b: np.ndarray) -> float | None:
    """MS-SSIM of two (H, W, 3) uint8 images; None if a side is too short for its five scales."""
    if min(a.shape[:2]) < MS_SSIM_MIN_SIDE:
        return None
    require("eval")
    import torch
    from pytorch_msssim import ms_ssim as compute

    x, y = (torch.tensor(rearrange(v, "h w c -> 1 c h w")).float() for v in (a, b))
    return float(compute(x, y, data_range=255.0))


RateDistortion = tuple[Sequence[float], Sequence[float]]  # bpp, PSNR in dB


def bd_rate(anchor: RateDistortion, test: RateDistortion) -> float | None:
    """Bjontegaard-delta rate in percent, test against anchor; negative is better. Piecewise cubic
    (PCHIP) over the whole overlap in PSNR, on rising points; None if the curves do not overlap."""
    return _delta(anchor, test, "bd_rate", axis=1)


def bd_psnr(anchor: RateDistortion, test: RateDistortion) -> float | None:
    """Bjontegaard-delta PSNR in dB over the whole overlap in rate; None if there is none."""
    return _delta(anchor, test, "bd_psnr", axis=0)


def rising(bpp: Sequence[float], psnr: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Finite points by rising rate, without those that a point of lower rate matches or beats:
    Bjontegaard figures exist only for rising curves."""
    kept: list[tuple[float, float]] = []
    for rate, quality in sorted(zip(bpp, psnr, strict=True)):
        if math.isfinite(quality) and (not kept or quality > kept[-1][1]):
            kept.append((rate, quality))
    return np.array([rate for rate, _ in kept]), np.array([quality for _, quality in kept])


def _delta(anchor: RateDistortion, test: RateDistortion, name: str, axis: int) -> float | None:
    require("eval")
    import bjontegaard

    curves = [rising(*curve) for curve in (anchor, test)]
    if min(len(curve[0]) for curve in curves) < 2:
        return None
    low = max(curve[axis].min() for curve in curves)
    high = min(curve[axis].max() for curve in curves)
    if high <= low:
        return None
    (bpp_a, psnr_a), (bpp_b, psnr_b) = curves
    function = getattr(bjontegaard, name)
    return float(
        function(
            bpp_a, psnr_a, bpp_b, psnr_b, method="pchip", require_matching_points=False,
            min_overlap=0,
        )
    )  # fmt: skip
