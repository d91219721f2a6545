"""Four-level CDF 9/7 wavelet packed to stride 16: the linear shortcut of analysis and synthesis.

[Cohen1992] Biorthogonal bases of compactly supported wavelets; lifting form [Daubechies1998].
Levels are packed by pixel-unshuffle 8/4/2/1 to 3 * 256 = 768 channels; ``channels`` keeps M of
them in order of energy. Symmetric extension at the borders, scaled to be nearly orthonormal, so
that squared error in the latent is squared error in the image.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 4
PACKED = 3 * 4**LEVELS
# lifting steps (predict, update, predict, update) and the gain that makes both bands orthonormal
STEPS = (-1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971)
GAIN = math.sqrt(2.0) / 1.230174104914001
MATRIX_MAX = 256


def _lift(even: Tensor, odd: Tensor, step: float, update: bool) -> Tensor:
    """One lifting step along the last axis: odd from its even neighbours, or (update) the other
    way round; neighbours beyond the border are mirrored."""
    if update:
        left = torch.cat([odd[..., :1], odd[..., :-1]], dim=-1)
        return even + step * (left + odd)
    right = torch.cat([even[..., 1:], even[..., -1:]], dim=-1)
    return odd + step * (even + right)


def _forward_last(x: Tensor) -> tuple[Tensor, Tensor]:
    """Low and high band along the last axis (even length)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    odd = _lift(even, odd, STEPS[0], False)
    even = _lift(even, odd, STEPS[1], True)
    odd = _lift(even, odd, STEPS[2], False)
    even = _lift(even, odd, STEPS[3], True)
    return even * GAIN, odd / GAIN


def _inverse_last(low: Tensor, high: Tensor) -> Tensor:
    even, odd = low / GAIN, high * GAIN
    even = _lift(even, odd, -STEPS[3], True)
    odd = _lift(even, odd, -STEPS[2], False)
    even = _lift(even, odd, -STEPS[1], True)
    odd = _lift(even, odd, -STEPS[0], False)
    return torch.stack([even, odd], dim=-1).flatten(-2)


@lru_cache(maxsize=64)
def _matrix(length: int, inverse: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """One level along an axis as a matrix: the lifting steps applied to the identity."""
    identity = torch.eye(length, dtype=torch.float64)
    if inverse:
        rows = _inverse_last(*identity.split(length // 2, dim=1))
    else:
        rows = torch.cat(_forward_last(identity), dim=1)
    return rows.to(dtype=dtype, device=device)


def _analyse(x: Tensor) -> tuple[Tensor, Tensor]:
    """Low and high band along the last axis. Short axes (training crops) go through a matrix,
    which costs a quarter of the lifting steps and their autograd graph."""
    length = x.shape[-1]
    if length <= MATRIX_MAX:
        low, high = (x @ _matrix(length, False, x.dtype, x.device)).split(length // 2, dim=-1)
        return low, high
    return _forward_last(x)


def _synthesise(low: Tensor, high: Tensor) -> Tensor:
    """Inverse of ``_analyse``."""
    length = 2 * low.shape[-1]
    if length <= MATRIX_MAX:
        return torch.cat([low, high], dim=-1) @ _matrix(length, True, low.dtype, low.device)
    return _inverse_last(low, high)


class WaveletPacking(nn.Module):
    """Image (B, 3, H, W), H and W multiples of 16 <-> M wavelet channels (B, M, H/16, W/16).

    Keeps the precision of its input under autocast: filters rounded to bfloat16 shrink the lowest
    luma band by 1 %, which is a quantiser step of high qualities.
    """

    colour: Tensor
    mean: Tensor
    channels: Tensor
    deviation: Tensor

    def __init__(self, M: int) -> None:
        super().__init__()
        # orthonormal luminance / opponent axes until ``calibrate`` has seen photographs
        axes = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [-0.5, 1.0, -0.5]])
        self.register_buffer("colour", axes / axes.norm(dim=1, keepdim=True))
        self.register_buffer("mean", torch.full((3,), 0.45))
        falloff = self._default_deviation()
        order = torch.argsort(falloff, descending=True, stable=True)[:M]
        self.register_buffer("channels", order)
        self.register_buffer("deviation", falloff[order])

    @staticmethod
    def _default_deviation() -> Tensor:
        """Deviation of the 768 packed channels of a 1/f spectrum, for uncalibrated models."""
        parts = []
        for level in range(1, LEVELS + 1):
            band = 0.02 * 2.0 ** (level - 1)
            parts.append(
                torch.tensor([1.0, 0.3, 0.2]).repeat_interleave(3 * 4 ** (LEVELS - level)) * band
            )
        parts.append(torch.tensor([1.0, 0.3, 0.2]) * 0.4 * 2.0**LEVELS / 4)
        return torch.cat(parts)

    def _all(self, x: Tensor) -> Tensor:
        """All 768 channels, finest level first."""
        low = torch.einsum("dc,bchw->bdhw", self.colour, x - self.mean.view(1, 3, 1, 1))
        parts = []
        for level in range(1, LEVELS + 1):
            left, right = _analyse(low)
            top_left, bottom_left = _analyse(left.transpose(-1, -2))
            top_right, bottom_right = _analyse(right.transpose(-1, -2))
            bands = torch.stack([bottom_left, top_right, bottom_right], dim=2).flatten(1, 2)
            parts.append(F.pixel_unshuffle(bands.transpose(-1, -2), 2 ** (LEVELS - level)))
            low = top_left.transpose(-1, -2)
        return torch.cat([*parts, low], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self._all(x)[:, self.channels]

    def inverse(self, y: Tensor) -> Tensor:
        """Image of the kept channels, the others zero."""
        with torch.autocast(y.device.type, enabled=False):
            return self._inverse(y)

    def _inverse(self, y: Tensor) -> Tensor:
        batch, _, height, width = y.shape
        packed = y.new_zeros(batch, PACKED, height, width).index_copy(1, self.channels, y)
        sizes = [9 * 4 ** (LEVELS - level) for level in range(1, LEVELS + 1)] + [3]
        *parts, low = packed.split(sizes, dim=1)
        for level in range(LEVELS, 0, -1):
            bands = F.pixel_shuffle(parts[level - 1], 2 ** (LEVELS - level)).transpose(-1, -2)
            bottom_left, top_right, bottom_right = bands.unflatten(1, (3, 3)).unbind(2)
            left = _synthesise(low.transpose(-1, -2), bottom_left)
            right = _synthesise(top_right, bottom_right)
            low = _synthesise(left.transpose(-1, -2), right.transpose(-1, -2))
        return torch.einsum("dc,bdhw->bchw", self.colour, low) + self.mean.view(1, 3, 1, 1)

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Set colour axes (KLT), kept channels and their deviations from photographs ``x``."""
        pixels = x.permute(1, 0, 2, 3).flatten(1).double()
        self.mean.copy_(pixels.mean(dim=1))
        _, axes = torch.linalg.eigh(torch.cov(pixels))
        axes = axes.flip(1).T
        self.colour.copy_(axes * torch.sign(axes.sum(dim=1, keepdim=True)))
        energy = self._all(x).double().pow(2).mean(dim=(0, 2, 3))
        order = torch.argsort(energy, descending=True, stable=True)[: len(self.channels)]
        self.channels.copy_(order)
        self.deviation.copy_(energy[order].sqrt())
