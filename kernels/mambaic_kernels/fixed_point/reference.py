"""The definition of the fixed-point operations: plain torch, one operation after the other."""

from __future__ import annotations

import torch
from torch import Tensor

PER_UNIT = 1024.0
UNIT = 1.0 / PER_UNIT
DIGIT, DIGIT_ZERO = 16.0, 128  # what a high digit counts; the byte of digits that are 0
ONE_DIGIT = 127.0  # levels of either sign that are one digit


def to_grid(x: Tensor) -> Tensor:
    """The nearest multiples of UNIT, halves to even."""
    return (x * PER_UNIT).round_().mul_(UNIT)


def to_levels(x: Tensor, per_step: float, most: float) -> Tensor:
    """Integers in [-most, most] of x in steps of 1 / per_step."""
    return (x * per_step).round_().clamp_(-most, most)


def digit_count(most: float) -> int:
    """How many digits of a byte so many levels of either sign are."""
    return 1 if most <= ONE_DIGIT else 2


def to_digits(x: Tensor, per_step: float, most: float) -> Tensor:
    """``to_levels`` of x (B, ...), at most 2047 steps, as digits: (2 B, ...) uint8, first high
    digits, then low ones, levels = DIGIT * high + low, each less DIGIT_ZERO. Of at most ONE_DIGIT
    steps one digit each: (B, ...)."""
    levels = to_levels(x, per_step, most)
    if digit_count(most) == 1:
        return levels.add_(float(DIGIT_ZERO)).to(torch.uint8)
    high = (levels / DIGIT).floor_()
    low = levels.sub_(high, alpha=DIGIT)
    return torch.cat([high, low]).add_(float(DIGIT_ZERO)).to(torch.uint8)


def rescale(sums: Tensor, multiplier: Tensor, bias: Tensor) -> Tensor:
    """Multiples of UNIT of integers ``sums`` times ``multiplier`` (broadcast), plus ``bias``;
    overwrites ``sums``."""
    return sums.mul_(multiplier).round_().mul_(UNIT).add_(bias)


def look_up(x: Tensor, values: Tensor, low: float, per_unit: float) -> Tensor:
    """``values`` at x in steps of 1 / per_unit from ``low``; beyond, those at the ends."""
    place = (x - low).mul_(per_unit).round_().clamp_(0.0, float(len(values) - 1))
    return values[place.int()]


def softplus(x: Tensor, values: Tensor, per_unit: float) -> Tensor:
    """max(x, 0) plus ``values`` at |x| in steps of 1 / per_unit."""
    return look_up(x.abs(), values, 0.0, per_unit).add_(x.clamp(min=0.0))


def shares(
    products: Tensor, bias: Tensor, powers: Tensor, per_unit: float, per_step: float, parts: float
) -> Tensor:
    """Integers that share out about ``parts`` among the keys of every query, as a softmax does.

    ``products`` (n, heads, S, S) integers of which one is ``per_unit``, ``bias`` (1 or n, heads,
    S, S) or broadcast; ``powers`` are integers exp(-i / per_step).
    """
    logits = to_grid(products * per_unit) + to_grid(bias)
    below = (logits.amax(dim=-1, keepdim=True) - logits).mul_(per_step).round_()
    found = powers[below.clamp_(max=float(len(powers) - 1)).int()]
    return (found * parts).div_(found.sum(dim=-1, keepdim=True)).round_()


def look_up_octaves(v: Tensor, values: Tensor, shift: int, first: int) -> Tensor:
    """``values`` by the leading bits of v >= 1: ``bits >> shift - first``, at most the last."""
    cell = v.view(torch.int32) >> shift
    return values[cell.sub_(first).clamp_(0, len(values) - 1)]


def feature_levels(
    y: Tensor, values: Tensor, shift: int, first: int, per_step: float, most: float
) -> Tensor:
    """Integers (B, 2C, H, W) of features of y (B, C, H, W): ``values`` by the leading bits of
    |y| + 1, as ``look_up_octaves``, with the signs of y, then without."""
    magnitude = to_levels(look_up_octaves(y.abs() + 1.0, values, shift, first), per_step, most)
    return torch.cat([torch.copysign(magnitude, y), magnitude], dim=1)


def norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    fine: tuple[float, float, float],
    coarse: tuple[float, float, float],
    eps: float,
) -> Tensor:
    """Layer norm over the last dimension. ``fine`` and ``coarse``: steps per unit, most, and what
    one of the sum of the levels, of their squares, adds to mean and variance."""
    mean = to_levels(x, *fine[:2]).sum(dim=-1, keepdim=True).mul_(fine[2])
    centred = x - mean
    levels = to_levels(centred, *coarse[:2]).int()
    squares = levels.square_().sum(dim=-1, keepdim=True, dtype=torch.int32)
    variance = squares.float().mul_(coarse[2]).clamp_(min=eps)
    return to_grid(centred.div_(variance.sqrt_()).mul_(weight)).add_(bias)
