"""Synthesis of the wavelet in fixed point: the same numbers on every device.

The lifting steps of ``reference``, every product rounded to a multiple of the unit before it is
added to anything.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mambaic_kernels.wavelet.reference import GAIN, STEPS


def synthesise(bands: Tensor, per_unit: float) -> Tensor:
    """``reference.synthesise`` of multiples of 1 / per_unit, a power of two; float32."""
    low_low, low_high, high_low, high_high = bands.transpose(-1, -2)
    halves = [_unlift(low_low, low_high, per_unit), _unlift(high_low, high_high, per_unit)]
    low, high = (half.transpose(-1, -2) for half in halves)
    return _unlift(low, high, per_unit)


def _times(x: Tensor, factor: float, per_unit: float) -> Tensor:
    return (x * factor).mul_(per_unit).round_().div_(per_unit)


def _unlift(low: Tensor, high: Tensor, per_unit: float) -> Tensor:
    even, odd = _times(low, 1 / GAIN, per_unit), _times(high, GAIN, per_unit)
    for step, of_even in zip(STEPS[::-1], (True, False, True, False), strict=True):
        if of_even:
            beside = torch.cat([odd[..., :1], odd[..., :-1]], dim=-1) + odd
            even = even - _times(beside, step, per_unit)
        else:
            beside = torch.cat([even[..., 1:], even[..., -1:]], dim=-1) + even
            odd = odd - _times(beside, step, per_unit)
    return torch.stack([even, odd], dim=-1).flatten(-2)
