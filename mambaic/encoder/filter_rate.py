"""Coefficients of a filter with the least cost, in bits and error together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mambaic.coding.binary_arithmetic import ONE
from mambaic.reconstruction.filter_code import (
    FINENESS_BITS,
    FINENESSES,
    CodedFilter,
    chances,
    rates,
    step,
)
from mambaic.reconstruction.filter_taps import TAPS, Tap
from mambaic_kernels.integer_least_squares import move_in_turn, round_in_turn

CHUNK_BITS = 16  # of a filter's presence: the length before it, and the byte that it ends in
SWEEPS = 20  # at most, over the numbers of a plane, each by itself while the others stay
USUAL = 6  # fineness of a picture of half a megapixel
NATS = 2 * math.log(2)  # of a bit, times the 2 of a Gaussian's exponent


class Costs(NamedTuple):
    """Of coefficients c of a plane's taps: ``c @ gram @ c - 2 * cross @ c`` bits.

    float64, of torch: where other programs keep the processor busy, as when many pictures are
    coded at a time, the BLAS that comes with NumPy takes a hundred times as long for matrices of
    this size, as its threads wait for each other.
    """

    gram: Tensor  # (taps, taps)
    cross: Tensor  # (taps,)


def cheapest(costs: list[Costs]) -> CodedFilter | None:
    """The best filter for the planes of ``costs``; None if it costs more than it gains."""
    found: dict[int, tuple[float, CodedFilter]] = {}

    def cost(fineness: int) -> float:
        if fineness not in found:
            planes = [of_plane(c, taps, fineness) for c, taps in zip(costs, TAPS, strict=False)]
            coded = CodedFilter(fineness, tuple(numbers for _, numbers in planes))
            found[fineness] = sum(bits for bits, _ in planes), coded
        return found[fineness][0]

    best, at = -1, USUAL
    while at != best:  # downhill: too coarse loses error, too fine bits
        best = at
        around = range(max(0, best - 1), min(FINENESSES, best + 2))
        at = min(around, key=cost)
    total, coded = found[best]
    return coded if total + FINENESS_BITS + CHUNK_BITS < 0 else None


def of_plane(costs: Costs, taps: Sequence[Tap], fineness: int) -> tuple[float, tuple[int, ...]]:
    """Cost in bits, and numbers: least squares by how large numbers are expected to be, those that
    matter most rounded first, then moved one by one."""
    steps = torch.tensor([step(tap, fineness) for tap in taps], dtype=torch.float64)
    gram, cross = costs.gram * steps * steps[:, None], costs.cross * steps
    pairs = [chances(tap, fineness) for tap in taps]
    zero, last = (torch.tensor(of, dtype=torch.float64) / ONE for of in zip(*pairs, strict=True))
    spread = (1 - zero) * (2 - last) / last**2  # mean square of such numbers
    inverse = torch.linalg.inv(gram + torch.diag(1 / (NATS * spread)))
    order = torch.argsort(gram.diag() * spread, descending=True)
    short, numbers = np.array([rates(*pair) for pair in pairs]), np.zeros(len(taps))
    round_in_turn(*(of.numpy() for of in (inverse, inverse @ cross, order)), short, numbers)
    bits = move_in_turn(gram.numpy(), cross.numpy(), short, numbers, SWEEPS)
    return float(bits), tuple(map(int, numbers))
