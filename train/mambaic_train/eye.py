"""What training for the eye minimises: a differentiable likeness of SSIMULACRA2.

    x --linear RGB--> 1/1, 1/2, ... 1/16 --XYB--> structure, added edges, lost edges
                                                  --means and 4-norms, weighed--> score

``mambaic.imaging.ssimulacra2`` is the definition. Differs from it: a batch at a time; only the
planes whose errors weigh at least ``LEAST``, which leaves out 0.02 of 870; mirrored borders, as
crops go on beyond theirs.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from mambaic.imaging.ssimulacra2 import ABSORBANCE, BIAS, SCALES, STABILITY, WEIGHTS, scaled

LEAST = 0.05
SIGMA, RADIUS = 1.5, 5
SIDE = 16 * 8  # pixels of a crop: 8 of its coarsest scale
# scale -> channel -> weights of what ``_pooled`` gives, by number
NEEDED: dict[int, dict[int, dict[int, float]]] = {}
for _row, _weights in enumerate(WEIGHTS):
    _own = {number: weight for number, weight in enumerate(_weights) if weight >= LEAST}
    if _own:
        NEEDED.setdefault(_row % SCALES, {})[_row // SCALES] = _own


def score(x: Tensor, x_hat: Tensor) -> Tensor:
    """About the SSIMULACRA2 of pictures (B, 3, H, W) in [0, 1], sides multiples of 16 and at least
    SIDE; (B,)."""
    total = x.new_zeros(len(x))
    linear = torch.cat([_linear(x), _linear(x_hat)])
    for scale in range(max(NEEDED) + 1):
        if scale:
            linear = F.avg_pool2d(linear, 2)
        channels = sorted(NEEDED[scale])
        maps = _maps(*_xyb(linear)[:, channels].chunk(2))
        for place, channel in enumerate(channels):
            for number, weight in NEEDED[scale][channel].items():
                total = total + weight * _pooled(maps[number % 3][:, place], number // 3)
    # of equal pictures the score has no slope
    return scaled(total.clamp(min=1e-4))


def _linear(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    # the branch that is not taken must have a finite gradient, too
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp(min=0.04) + 0.055) / 1.055) ** 2.4)


def _xyb(linear: Tensor) -> Tensor:
    cones = torch.einsum("dc,bchw->bdhw", linear.new_tensor(ABSORBANCE), linear) + BIAS
    long, middle, short = (cones ** (1 / 3) - BIAS ** (1 / 3)).unbind(1)
    y = (long + middle) / 2
    return torch.stack([7 * (long - middle) + 0.42, y + 0.01, short - y + 0.55], dim=1)


def _maps(x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of planes (B, n, h, w): loss of structure, added edges, lost edges."""
    mean, mean_hat = _blur(x), _blur(x_hat)
    shared = _blur(x * x_hat) - mean * mean_hat
    variances = _blur(x.square() + x_hat.square()) - mean.square() - mean_hat.square()
    alike = (1 - (mean - mean_hat).square()) * (2 * shared + STABILITY) / (variances + STABILITY)
    edges = (1 + (x_hat - mean_hat).abs()) / (1 + (x - mean).abs()) - 1
    return F.relu(1 - alike), F.relu(edges), F.relu(-edges)


def _pooled(plane: Tensor, norm: int) -> Tensor:
    """Mean (0) or 4-norm (1) of planes (B, h, w), (B,)."""
    if norm == 0:
        return plane.mean(dim=(1, 2))
    return (plane.square().square().mean(dim=(1, 2)) + 1e-20) ** 0.25


def _blur(planes: Tensor) -> Tensor:
    """Of planes (..., h, w): as matrix products, which on CPUs take less time than convolutions."""
    rows, columns = (_blur_matrix(side, planes.device) for side in planes.shape[-2:])
    return rows @ (planes @ columns.mT)


@lru_cache(maxsize=16)
def _blur_matrix(side: int, device: torch.device) -> Tensor:
    """(side, side) of a Gaussian along a line that is mirrored at its ends."""
    offsets = torch.arange(-RADIUS, RADIUS + 1)
    taps = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    matrix = torch.zeros(side, side)
    for offset, tap in zip(offsets.tolist(), taps / taps.sum(), strict=True):
        at = torch.arange(side) + offset
        at = torch.where(at < 0, -1 - at, at)
        at = torch.where(at >= side, 2 * side - 1 - at, at)
        matrix.index_put_((torch.arange(side), at), tap, accumulate=True)
    return matrix.to(device)
