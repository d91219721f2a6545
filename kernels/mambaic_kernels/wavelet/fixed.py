"""Synthesis of the wavelet in fixed point: the same numbers on every device.

The lifting steps of ``reference``, every product rounded to a multiple of the unit before it is
added to anything.
"""

from __future__ import annotations

from torch import Tensor

from mambaic_kernels.wavelet.cpu import join_rounded
from mambaic_kernels.wavelet.reference import GAIN, NEGATIVE, undo_steps


def synthesise(bands: Tensor, per_unit: float) -> Tensor:
    """``reference.synthesise`` of multiples of 1 / per_unit, a power of two; float32."""
    if bands.device.type == "cpu":
        planes = bands.flatten(1, -3)
        x = join_rounded(planes, NEGATIVE[::-1], 1 / GAIN, GAIN, per_unit)
        return x.view(*bands.shape[1:-2], *x.shape[-2:])
    return synthesise_reference(bands, per_unit)


def synthesise_reference(bands: Tensor, per_unit: float) -> Tensor:
    """``synthesise`` in plain torch."""
    low_low, low_high, high_low, high_high = bands.transpose(-1, -2)
    halves = [_unlift(low_low, low_high, per_unit), _unlift(high_low, high_high, per_unit)]
    low, high = (half.transpose(-1, -2) for half in halves)
    return _unlift(low, high, per_unit)


def _unlift(low: Tensor, high: Tensor, per_unit: float) -> Tensor:
    def times(x: Tensor, factor: float) -> Tensor:
        return (x * factor).mul_(per_unit).round_().div_(per_unit)

    return undo_steps(times(low, 1 / GAIN), times(high, GAIN), times)
