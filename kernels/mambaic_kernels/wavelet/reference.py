"""One level of the CDF 9/7 wavelet in two dimensions, by lifting.

[Cohen1992] Biorthogonal bases of compactly supported wavelets; lifting form [Daubechies1998].
Symmetric extension at the borders, scaled to be nearly orthonormal.

In float32 on CPUs each direction is one pass over blocks of lines in the cache, and so is its
gradient. Elsewhere, in plain torch, short axes (training crops) go through a matrix, which costs a
quarter of the lifting steps and their autograd graph, long ones through the steps.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from mambaic_kernels.scan.operators import watched

# lifting steps (predict, update, predict, update) and the gain that makes both bands orthonormal
STEPS = (-1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971)
GAIN = math.sqrt(2.0) / 1.230174104914001
MATRIX_MAX = 256
Times = Callable[[Tensor, float], Tensor]


def analyse(x: Tensor) -> Tensor:
    """x (..., 2h, 2w) -> bands (4, ..., h, w): low, high along columns, along rows, along both."""
    if not _fused(x):
        return analyse_reference(x)
    planes = x.reshape(-1, *x.shape[-2:])
    bands = (_analyse_operator if watched(x) else _analyse)(planes, False)
    return bands.view(4, *x.shape[:-2], *bands.shape[-2:])


def synthesise(bands: Tensor) -> Tensor:
    """Inverse of ``analyse``."""
    if not _fused(bands):
        return synthesise_reference(bands)
    planes = bands.reshape(4, -1, *bands.shape[-2:])
    x = (_synthesise_operator if watched(bands) else _synthesise)(planes, False)
    return x.view(*bands.shape[1:-2], *x.shape[-2:])


def _fused(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32


# -- the definition ----------------------------------------------------------------------------


def analyse_reference(x: Tensor) -> Tensor:
    """``analyse`` in plain torch."""
    halves = [half.transpose(-1, -2) for half in _split(x)]
    return torch.stack([band.transpose(-1, -2) for half in halves for band in _split(half)])


def synthesise_reference(bands: Tensor) -> Tensor:
    """``synthesise`` in plain torch."""
    low_low, low_high, high_low, high_high = bands.transpose(-1, -2)
    halves = [_merge(low_low, low_high), _merge(high_low, high_high)]
    return _merge(*(half.transpose(-1, -2) for half in halves))


def _lift(
    even: Tensor, odd: Tensor, step: float, update: bool, times: Times = operator.mul
) -> Tensor:
    """One lifting step: odd from its even neighbours, or (update) the other way round; neighbours
    beyond the border are mirrored."""
    if update:
        left = torch.cat([odd[..., :1], odd[..., :-1]], dim=-1)
        return even + times(left + odd, step)
    right = torch.cat([even[..., 1:], even[..., -1:]], dim=-1)
    return odd + times(even + right, step)


def lift(x: Tensor) -> tuple[Tensor, Tensor]:
    """Low and high band along the last axis (even length)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    odd = _lift(even, odd, STEPS[0], False)
    even = _lift(even, odd, STEPS[1], True)
    odd = _lift(even, odd, STEPS[2], False)
    even = _lift(even, odd, STEPS[3], True)
    return even * GAIN, odd / GAIN


def unlift(low: Tensor, high: Tensor) -> Tensor:
    """Inverse of ``lift``."""
    return undo_steps(low / GAIN, high * GAIN)


def undo_steps(even: Tensor, odd: Tensor, times: Times = operator.mul) -> Tensor:
    """The lifting steps backwards, with ``times`` for products of tensors and numbers."""
    even = _lift(even, odd, -STEPS[3], True, times)
    odd = _lift(even, odd, -STEPS[2], False, times)
    even = _lift(even, odd, -STEPS[1], True, times)
    odd = _lift(even, odd, -STEPS[0], False, times)
    return torch.stack([even, odd], dim=-1).flatten(-2)


@lru_cache(maxsize=64)
def _matrix(length: int, inverse: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """One level along an axis as a matrix: the lifting steps applied to the identity."""
    identity = torch.eye(length, dtype=torch.float64)
    if inverse:
        rows = unlift(*identity.split(length // 2, dim=1))
    else:
        rows = torch.cat(lift(identity), dim=1)
    return rows.to(dtype=dtype, device=device)


def _split(x: Tensor) -> tuple[Tensor, Tensor]:
    length = x.shape[-1]
    if length <= MATRIX_MAX:
        low, high = (x @ _matrix(length, False, x.dtype, x.device)).split(length // 2, dim=-1)
        return low, high
    return lift(x)


def _merge(low: Tensor, high: Tensor) -> Tensor:
    length = 2 * low.shape[-1]
    if length <= MATRIX_MAX:
        return torch.cat([low, high], dim=-1) @ _matrix(length, True, low.dtype, low.device)
    return unlift(low, high)


# -- the fused passes: planes (P, 2h, 2w), bands (4, P, h, w) ----------------------------------
# ``transposed``: the gradient of the other direction instead.

NEGATIVE = tuple(-step for step in STEPS)


def _analyse(x: Tensor, transposed: bool) -> Tensor:
    from mambaic_kernels.wavelet.cpu import separate

    forward, gradient = (STEPS, GAIN, True, False), (NEGATIVE, 1 / GAIN, False, True)
    return separate(x, gradient if transposed else forward)


def _synthesise(bands: Tensor, transposed: bool) -> Tensor:
    from mambaic_kernels.wavelet.cpu import join

    inverse, gradient = (NEGATIVE[::-1], 1 / GAIN, False, False), (STEPS[::-1], GAIN, True, True)
    return join(bands, gradient if transposed else inverse)


_analyse_operator = torch.library.custom_op("mambaic::wavelet_analyse", _analyse, mutates_args=())
_synthesise_operator = torch.library.custom_op(
    "mambaic::wavelet_synthesise", _synthesise, mutates_args=()
)


@_analyse_operator.register_fake
def _(x: Tensor, transposed: bool) -> Tensor:
    return x.new_empty(4, x.shape[0], x.shape[1] // 2, x.shape[2] // 2)


@_synthesise_operator.register_fake
def _(bands: Tensor, transposed: bool) -> Tensor:
    return bands.new_empty(bands.shape[1], 2 * bands.shape[2], 2 * bands.shape[3])


def _setup(ctx: Any, inputs: tuple[Tensor, bool], output: Tensor) -> None:
    ctx.transposed = inputs[1]


def _gradient_of_analyse(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return torch.ops.mambaic.wavelet_synthesise(grad, not ctx.transposed), None


def _gradient_of_synthesise(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return torch.ops.mambaic.wavelet_analyse(grad, not ctx.transposed), None


_analyse_operator.register_autograd(_gradient_of_analyse, setup_context=_setup)
_synthesise_operator.register_autograd(_gradient_of_synthesise, setup_context=_setup)
