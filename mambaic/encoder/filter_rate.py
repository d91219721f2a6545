"""Coefficients of a filter with the least cost, in bits and error together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mambaic.coding.binary_arithmetic import ONE
from mambaic.reconstruction.filter_code import (
    FINENESS_BITS,
    FINENESSES,
    CodedFilter,
    chances,
    rate,
    step,
)
from mambaic.reconstruction.filter_taps import TAPS, Tap

CHUNK_BITS = 16  # of a filter's presence: the length before it, and the byte that it ends in
SWEEPS = 20  # at most, over the numbers of a plane, each by itself while the others stay
LARGEST = 1 << 20
USUAL = 6  # fineness of a picture of half a megapixel
NATS = 2 * math.log(2)  # of a bit, times the 2 of a Gaussian's exponent

Bits = Callable[[int], float]


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
    """Cost in bits, and numbers: rounded one after the other, then moved one by one."""
    steps = torch.tensor([step(tap, fineness) for tap in taps], dtype=torch.float64)
    costs = Costs(costs.gram * steps * steps[:, None], costs.cross * steps)
    pairs = [chances(tap, fineness) for tap in taps]
    bits = [rate(*pair) for pair in pairs]
    zero, last = (torch.tensor(of, dtype=torch.float64) / ONE for of in zip(*pairs, strict=True))
    spread = (1 - zero) * (2 - last) / last**2  # mean square of such numbers
    numbers = _rounded(costs, spread, bits)
    _move(costs, numbers, bits)
    chosen = tuple(map(int, numbers.tolist()))
    error = float(numbers @ costs.gram @ numbers - 2 * costs.cross @ numbers)
    return error + sum(of(abs(v)) for of, v in zip(bits, chosen, strict=True)), chosen


def _rounded(costs: Costs, spread: Tensor, bits: list[Bits]) -> Tensor:
    """Least squares by how large numbers are expected to be, those that matter most rounded first,
    while the others make up for what each leaves."""
    inverse = torch.linalg.inv(costs.gram + torch.diag(1 / (NATS * spread)))
    mean = inverse @ costs.cross
    numbers = torch.zeros_like(mean)
    for j in torch.argsort(costs.gram.diag() * spread, descending=True).tolist():
        free, target = float(inverse[j, j]), float(mean[j])
        numbers[j] = _best(target, 1 / free, bits[j])
        mean += inverse[:, j] * ((float(numbers[j]) - target) / free)
        inverse -= torch.outer(inverse[:, j], inverse[j]) / free
    return numbers


def _move(costs: Costs, numbers: Tensor, bits: list[Bits]) -> None:
    """Each number to where it is best while the others stay, until none moves."""
    slope, rows = (costs.gram @ numbers - costs.cross).numpy(), costs.gram.numpy()
    values, curvature = numbers.numpy(), costs.gram.diag().numpy() + 1e-9
    for _ in range(SWEEPS):
        moved = False
        for j, bits_of in enumerate(bits):
            now, bend = int(values[j]), float(curvature[j])
            best = _best(now - float(slope[j]) / bend, bend, bits_of, now)
            if best != now:
                slope += rows[j] * (best - now)
                values[j] = best
                moved = True
        if not moved:
            break


def _best(target: float, bend: float, bits: Bits, now: int = 0) -> int:
    """The number with the least ``bend * (number - target)**2`` and bits."""
    low = math.floor(max(-LARGEST, min(LARGEST - 1, target)))
    choices = {0, low, low + 1, now}
    return min(choices, key=lambda v: bend * (v - target) ** 2 + bits(abs(v)))
