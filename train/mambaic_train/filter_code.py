"""Learns a checkpoint's code of post-filters from those of photographs.

The coefficients of a picture are taken as samples of a Gaussian, whose covariance is found by
expectation-maximisation ([Dempster1977]) over pictures, each weighted by how well its pixels
determine them: no picture's filter has to be chosen first. Its axes, in the metric of what
coefficients cost in a typical picture, are the basis; probabilities are counted from filters found
with it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from mambaic.coding.binary_arithmetic import ONE
from mambaic.encoder.filter_rate import NATS, Costs, cheapest, of_plane
from mambaic.encoder.fit_regions import fit_tile
from mambaic.encoder.rotation_search import find_rotation
from mambaic.encoder.tile_encoder import encode_tile
from mambaic.models.model import MambaIC
from mambaic.reconstruction.filter_code import LONG, STEPS, FilterCode
from mambaic.tiling.boxes import picture_box

ROUNDS = 15  # of expectation-maximisation
BROAD = 20.0  # variance to begin with, of what a bit is worth
RIDGE = 1e-4  # of the covariance, of what a bit is worth
RARE = 10.0  # numbers that probabilities have counted before they see one
BESIDE = 0.3  # counts of the numbers at finenesses beside a picture's best
FEWEST, MOST = 0.01, 0.997  # probabilities


@torch.no_grad()
def fit_filter_code(model: MambaIC, pictures: Iterable[tuple[np.ndarray, float]]) -> None:
    """Move the model's code to the filters of pictures (H, W, 3) uint8 at qualities."""
    observed = [observe(model, pixels, quality) for pixels, quality in pictures]
    code = model.filter_code
    bits = np.array([size for _, size in observed])
    for own in range(len(observed[0][0])):
        costs = [of_planes[own] for of_planes, _ in observed]
        _set_basis(code, own, costs, (np.median(bits) / bits).tolist())
    _count(code, [of_planes for of_planes, _ in observed])


def observe(model: MambaIC, pixels: np.ndarray, quality: float) -> tuple[list[Costs], float]:
    """What coefficients cost in a picture, and the bits of its latents."""
    height, width = pixels.shape[:2]
    rotation = find_rotation(model, pixels, quality)
    picture = model, pixels, picture_box(pixels)
    coded = encode_tile(*picture, quality, rotation)
    fit = fit_tile(*picture, torch.cat(coded.decoded, dim=1), quality, rotation)
    costs = fit.costs(model.config.error_weight(quality), width * height)
    return costs, coded.estimated_bits


def _set_basis(code: FilterCode, own: int, costs: list[Costs], shares: list[float]) -> None:
    """``shares``: how much more a picture would cost if its file were of typical size."""
    metric = torch.zeros_like(costs[0].gram)
    for share, (gram, _) in zip(shares, costs, strict=True):
        metric += share / len(costs) * gram
    unit = 1 / metric.diag()  # the square of a coefficient that costs a bit
    covariance = torch.diag(BROAD * unit)
    for _ in range(ROUNDS):
        before = torch.linalg.inv(covariance)
        total = torch.diag(RIDGE * len(costs) * unit)
        for gram, cross in costs:
            spread = torch.linalg.inv(NATS * gram + before)
            mean = spread @ (NATS * cross)
            total += spread + torch.outer(mean, mean)
        covariance = total / len(costs)
    root = torch.linalg.cholesky(metric)
    variances, axes = torch.linalg.eigh(root.T @ covariance @ root)
    basis = torch.linalg.solve(root.T, axes).flip(1)  # the largest first
    plane = code.plane(own)
    plane.basis.copy_(basis.half())  # as it is stored
    for fineness, step in enumerate(STEPS):
        _set_probabilities(code, own, fineness, *_laplacian(variances.flip(0).numpy(), step))


def _laplacian(variances: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that numbers are 0, and that others end at each size."""
    scale = np.maximum(np.sqrt(np.maximum(variances, 0) / 2) / step, 0.1)
    return 1 - np.exp(-0.5 / scale), 1 - np.exp(-1 / scale)


def _set_probabilities(
    code: FilterCode, own: int, fineness: int, zero: np.ndarray, last: np.ndarray
) -> None:
    plane = code.plane(own)
    for target, values in ((plane.zero, zero), (plane.last, last)):
        whole = np.rint(values.clip(FEWEST, MOST) * ONE).astype(np.int32)
        target[fineness].copy_(torch.from_numpy(whole))


def _count(code: FilterCode, observed: list[list[Costs]]) -> None:
    """Probabilities by the numbers that the search finds with those of before."""
    counts = {
        (own, fineness): _Counts(code, own, fineness)
        for own in range(len(code.planes))
        for fineness in range(len(STEPS))
    }
    for costs in observed:
        best = cheapest(costs, code)
        if best is None:
            continue
        for fineness in range(max(0, best.fineness - 1), min(len(STEPS), best.fineness + 2)):
            for own, of_own in enumerate(costs):
                beside = fineness != best.fineness
                numbers = of_plane(of_own, code, own, fineness)[1] if beside else best.numbers[own]
                counts[own, fineness].add(np.array(numbers), BESIDE if beside else 1.0)
    for (own, fineness), counted in counts.items():
        _set_probabilities(code, own, fineness, *counted.probabilities())


class _Counts:
    """Of a plane's numbers at a fineness."""

    def __init__(self, code: FilterCode, own: int, fineness: int) -> None:
        zero, last = (np.array(values) / ONE for values in code.probabilities(own, fineness))
        self.zero, self.not_zero = RARE * zero, RARE * (1 - zero)
        self.last, self.not_last = RARE * last, RARE * (1 - last)

    def add(self, numbers: np.ndarray, weight: float) -> None:
        size = np.minimum(np.abs(numbers), LONG)
        self.zero += weight * (size == 0)
        self.not_zero += weight * (size > 0)
        self.last += weight * ((size > 0) & (size < LONG))
        self.not_last += weight * np.maximum(size - 1, 0)

    def probabilities(self) -> tuple[np.ndarray, np.ndarray]:
        return self.zero / (self.zero + self.not_zero), self.last / (self.last + self.not_last)
