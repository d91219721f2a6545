"""Coefficients of a filter with the least cost, in bits and error together."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mambaic.reconstruction.filter_code import (
    FINENESS_BITS,
    ONE,
    STEPS,
    CodedFilter,
    FilterCode,
    rate,
)

CHUNK_BITS = 16  # of a filter's presence: the length before it, and the byte that it ends in
SWEEPS = 20  # at most, over the numbers of a plane, each by itself while the others stay
LARGEST = 1 << 20
USUAL = 4  # fineness of a picture of half a megapixel
NATS = 2 * math.log(2)  # of a bit, times the 2 of a Gaussian's exponent


class Costs(NamedTuple):
    """Of coefficients c of a plane's taps: ``c @ gram @ c - 2 * cross @ c`` bits.

    float64, of torch: where other programs keep the processor busy, as when many pictures are
    coded at a time, the BLAS that comes with NumPy takes a hundred times as long for matrices of
    this size, as its threads wait for each other.
    """

    gram: Tensor  # (taps, taps)
    cross: Tensor  # (taps,)


def cheapest(costs: list[Costs], code: FilterCode) -> CodedFilter | None:
    """The best filter for the planes of ``costs``; None if it costs more than it gains."""
    found: dict[int, tuple[float, CodedFilter]] = {}

    def cost(fineness: int) -> float:
        if fineness not in found:
            planes = [of_plane(c, code, own, fineness) for own, c in enumerate(costs)]
            coded = CodedFilter(fineness, tuple(numbers for _, numbers in planes))
            found[fineness] = sum(bits for bits, _ in planes), coded
        return found[fineness][0]

    best, at = -1, USUAL
    while at != best:  # downhill: too coarse loses error, too fine bits
        best = at
        around = range(max(0, best - 1), min(len(STEPS), best + 2))
        at = min(around, key=cost)
    total, coded = found[best]
    return coded if total + FINENESS_BITS + CHUNK_BITS < 0 else None


def of_plane(
    costs: Costs, code: FilterCode, own: int, fineness: int
) -> tuple[float, tuple[int, ...]]:
    """Cost in bits, and numbers: those of least squares, rounded, and moved one by one."""
    directions = code.directions(own, fineness)
    gram, cross = costs = Costs(directions.T @ costs.gram @ directions, directions.T @ costs.cross)
    zero, last = code.probabilities(own, fineness)
    bits = [rate(*chance) for chance in zip(zero, last, strict=True)]
    chances = (torch.tensor(of, dtype=torch.float64) / ONE for of in (zero, last))
    start = _expected(costs, *chances)
    start = start.round().clamp(-LARGEST, LARGEST)
    numbers, slope = start.numpy(), (gram @ start - cross).numpy()
    rows, curvature = gram.numpy(), gram.diag().numpy() + 1e-9
    for _ in range(SWEEPS):
        moved = False
        for j, bits_of in enumerate(bits):
            now, bend = int(numbers[j]), float(curvature[j])
            target = now - float(slope[j]) / bend
            low = math.floor(max(-LARGEST, min(LARGEST - 1, target)))
            choices = {0, low, low + 1, now}
            best = min(choices, key=lambda v: bend * (v - target) ** 2 + bits_of(abs(v)))
            if best != now:
                slope += rows[j] * (best - now)
                numbers[j] = best
                moved = True
        if not moved:
            break
    chosen = tuple(map(int, numbers))
    end = torch.from_numpy(numbers)
    error = float(end @ gram @ end - 2 * cross @ end)
    return error + sum(of(abs(v)) for of, v in zip(bits, chosen, strict=True)), chosen


def _expected(costs: Costs, zero: Tensor, last: Tensor) -> Tensor:
    """Numbers by least squares and by how large their probabilities expect them."""
    spread = (1 - zero) * (2 - last) / last**2  # mean square of such numbers
    return torch.linalg.solve(NATS * costs.gram + torch.diag(1 / spread), NATS * costs.cross)
