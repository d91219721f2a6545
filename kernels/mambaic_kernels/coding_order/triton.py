"""CUDA backend: one launch each. Tested on CPU with TRITON_INTERPRET=1."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from mambaic_kernels.coding_order.reference import Scales
from mambaic_kernels.fixed_product.triton import _centre
from mambaic_kernels.fixed_scan.triton import EXACT
from mambaic_kernels.grids import Grid, Grids
from mambaic_kernels.scan.operators import watched

BLOCK = 512
ROWS = 32  # positions of a program that adds errors


@triton.jit
def _index(log_scale, scales):
    """Continuous scale indices in float64; ``scales`` are the lowest log-scale, the distance of two
    and the highest index: a kernel takes numbers as float32."""
    place = (log_scale.to(tl.float64) - tl.load(scales)) / tl.load(scales + 1) + 0.5
    return tl.minimum(tl.maximum(place, 0.0), tl.load(scales + 2)).to(tl.int32)


@triton.jit
def _indices_kernel(
    log_scale, scales, out, count, positions, channels, lb, ln, lc, BLOCK: tl.constexpr
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = at < count
    b, c, n = at // positions // channels, (at // positions) % channels, at % positions
    own = tl.load(log_scale + b * lb + n * ln + c * lc, mask=ok, other=0.0)
    tl.store(out + at, _index(own, scales).to(tl.int16), mask=ok)


@triton.jit
def _residuals_kernel(
    full, mean, log_scale, scales, out,
    count, positions, channels, across, first, fb, fc, fy, fx, mb, mn, mc, lb, ln, lc,
    row0, column0, row1, column1, stride, GRIDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = at < count
    b, c, n = at // positions // channels, (at // positions) % channels, at % positions
    y, x = _centre(n // across, n % across, row0, column0, row1, column1, stride, GRIDS)
    of_full = full + b * fb + (first + c) * fc + y * fy + x * fx
    own = tl.load(of_full, mask=ok, other=0.0).to(tl.float64)
    of_mean = tl.load(mean + b * mb + n * mn + c * mc, mask=ok, other=0.0).to(tl.float64)
    of_scale = tl.load(log_scale + b * lb + n * ln + c * lc, mask=ok, other=0.0)
    tl.store(out + at, own - of_mean, mask=ok)
    tl.store(out + count + at, _index(of_scale, scales).to(tl.float64), mask=ok)


@triton.jit
def _errors_kernel(
    error, log_scale, weights, count, positions, channels, across, kinds, most,
    eb, ek, ey, ex, lb, ln, lc, row0, column0, row1, column1, stride,
    GRIDS: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * BM + tl.arange(0, BM)
    k = tl.arange(0, BK)
    ok = at < count
    b, n = (at // positions).to(tl.int64), at % positions
    y, x = _centre(n // across, n % across, row0, column0, row1, column1, stride, GRIDS)
    sums = tl.zeros([BM, BK], tl.float32)
    for c in range(channels):
        own = tl.load(log_scale + b * lb + n * ln + c * lc, mask=ok, other=0.0)
        square = tl.minimum(tl.exp(2.0 * own), most)
        sums += square[:, None] * tl.load(weights + c * kinds + k, mask=k < kinds, other=0.0)
    to = error + (b * eb + y * ey + x * ex)[:, None] + (k * ek)[None, :]
    there = ok[:, None] & (k < kinds)[None, :]
    tl.store(to, tl.load(to, mask=there, other=0.0) + sums, mask=there)


@lru_cache(maxsize=8)
def _scales(low: float, step: float, most: float, device: torch.device) -> Tensor:
    return torch.tensor([low, step, most], dtype=torch.float64, device=device)


def _launch_indices(log_scale: Tensor, low: float, step: float, most: float) -> Tensor:
    batch, positions, channels = log_scale.shape
    out = log_scale.new_empty(batch, channels * positions, dtype=torch.int16)
    if count := out.numel():
        _indices_kernel[(triton.cdiv(count, BLOCK),)](
            log_scale, _scales(low, step, most, out.device), out, count, positions, channels,
            *log_scale.stride(), BLOCK=BLOCK, **EXACT,
        )  # fmt: skip
    return out


def _launch_residuals(
    full: Tensor, first: int, grids: list[int], mean: Tensor, log_scale: Tensor,
    low: float, step: float, most: float,
) -> Tensor:  # fmt: skip
    batch, positions, channels = mean.shape
    out = mean.new_empty(2, batch, channels * positions, dtype=torch.float64)
    if count := mean.numel():
        _residuals_kernel[(triton.cdiv(count, BLOCK),)](
            full, mean, log_scale, _scales(low, step, most, out.device), out,
            count, positions, channels, full.shape[-1] // grids[2], first, *full.stride(),
            *mean.stride(), *log_scale.stride(), *_places(grids),
            GRIDS=len(grids) // 3, BLOCK=BLOCK, **EXACT,
        )  # fmt: skip
    return out


def _launch_errors(
    error: Tensor, log_scale: Tensor, weights: Tensor, grids: list[int], most: float
) -> None:
    batch, positions, channels = log_scale.shape
    kinds, count = weights.shape[1], batch * positions
    if kinds and count and channels:
        _errors_kernel[(triton.cdiv(count, ROWS),)](
            error, log_scale, weights.contiguous(), count, positions, channels,
            error.shape[-1] // grids[2], kinds, most, *error.stride(), *log_scale.stride(),
            *_places(grids), GRIDS=len(grids) // 3, BM=ROWS, BK=triton.next_power_of_2(kinds),
        )  # fmt: skip


def _places(grids: list[int]) -> list[int]:
    """Row and column of the first and of the last grid, and their stride."""
    return [*grids[:2], *grids[-3:-1], grids[2]]


_indices_operator: Any = torch.library.custom_op(
    "mambaic::scale_indices", _launch_indices, mutates_args=()
)
_residuals_operator: Any = torch.library.custom_op(
    "mambaic::residuals_and_indices", _launch_residuals, mutates_args=()
)
_errors_operator: Any = torch.library.custom_op(
    "mambaic::add_errors", _launch_errors, mutates_args=("error",)
)


@_indices_operator.register_fake
def _(log_scale, low, step, most):  # type: ignore[no-untyped-def]
    return log_scale.new_empty(len(log_scale), log_scale[0].numel(), dtype=torch.int16)


@_residuals_operator.register_fake
def _(full, first, grids, mean, log_scale, low, step, most):  # type: ignore[no-untyped-def]
    return mean.new_empty(2, len(mean), mean[0].numel(), dtype=torch.float64)


@_errors_operator.register_fake
def _(error, log_scale, weights, grids, most):  # type: ignore[no-untyped-def]
    return None


def _numbers(grids: Grids) -> list[int]:
    return [number for grid in grids for number in Grid(*grid)]


def indices(log_scale: Tensor, scales: Scales) -> Tensor:
    """See ``mambaic_kernels.coding_order.indices``."""
    found: Tensor = (_indices_operator if watched(log_scale) else _launch_indices)(
        log_scale, scales.low, scales.step, scales.last
    )
    return found


def residuals_and_indices(
    full: Tensor, first: int, grids: Grids, mean: Tensor, log_scale: Tensor, scales: Scales
) -> Tensor:
    """See ``mambaic_kernels.coding_order.residuals_and_indices``."""
    operands = full, first, _numbers(grids), mean, log_scale
    found: Tensor = (_residuals_operator if watched(mean) else _launch_residuals)(
        *operands, scales.low, scales.step, scales.last
    )
    return found


def add_errors(
    error: Tensor, log_scale: Tensor, weights: Tensor, grids: Grids, most: float
) -> None:
    """See ``mambaic_kernels.coding_order.add_errors``."""
    (_errors_operator if watched(log_scale) else _launch_errors)(
        error, log_scale, weights, _numbers(grids), most
    )
