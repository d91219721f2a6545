"""Distortion, rate and Bjontegaard-delta rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

MS_SSIM_MIN_SIDE = 161  # five scales of an 11-pixel window


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR of two uint8 arrays over all values, in dB; infinite if they are equal."""
    mse = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def ms_ssim(a: np.ndarray, b: np.ndarray) -> float | None:
    """MS-SSIM of two (H, W, 3) uint8 images; None if a side is too short for its five scales."""
    if min(a.shape[:2]) < MS_SSIM_MIN_SIDE:
        return None
    import torch
    from pytorch_msssim import ms_ssim as compute

    x, y = (torch.from_numpy(v.copy()).permute(2, 0, 1)[None].float() for v in (a, b))
    return float(compute(x, y, data_range=255.0))


def bpp_from_bytes(n_bytes: int, width: int, height: int) -> float:
    """Rate of a finished file, header included, in bits per original pixel."""
    return 8 * n_bytes / (width * height)


def bd_rate(
    anchor: tuple[Sequence[float], Sequence[float]], test: tuple[Sequence[float], Sequence[float]]
) -> float | None:
    """Bjontegaard-delta rate in percent of (bpp, PSNR) curves, test against anchor; negative is
    better. Piecewise cubic (PCHIP) over the whole overlap; None if the curves do not overlap."""
    import bjontegaard

    curves = []
    for bpp, psnr in (anchor, test):
        order = np.argsort(psnr)
        curves.append((np.asarray(bpp)[order], np.asarray(psnr)[order]))
    low = max(curve[1][0] for curve in curves)
    high = min(curve[1][-1] for curve in curves)
    if high <= low:
        return None
    (bpp_a, psnr_a), (bpp_b, psnr_b) = curves
    return float(
        bjontegaard.bd_rate(
            bpp_a, psnr_a, bpp_b, psnr_b, method="pchip", require_matching_points=False,
            min_overlap=0,
        )
    )  # fmt: skip
