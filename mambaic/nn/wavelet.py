"""Four-level CDF 9/7 wavelet packed to stride 16: the linear shortcut of analysis and synthesis.

[Cohen1992] Biorthogonal bases of compactly supported wavelets; lifting form [Daubechies1998].
Levels are packed by pixel-unshuffle 8/4/2/1 to 3 * 256 = 768 channels; ``channels`` keeps M of
them, the groups in order of energy, within a group neighbours far apart. Symmetric extension at the
borders, scaled to be nearly orthonormal, so that squared error in the latent is squared error in
the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mambaic.nn.grid import PER_UNIT
from mambaic_kernels.wavelet import fixed
from mambaic_kernels.wavelet.reference import analyse, synthesise

LEVELS = 4
PACKED = 3 * 4**LEVELS
SIZES = [9 * 4 ** (LEVELS - level) for level in range(1, LEVELS + 1)] + [3]  # level by level
BLOCKS = 4  # of 4x4 pixels, along a side of what a latent covers


class WaveletPacking(nn.Module):
    """Image (B, 3, H, W), H and W multiples of 16 <-> M wavelet channels (B, M, H/16, W/16).

    Keeps the precision of its input under autocast: filters rounded to bfloat16 shrink the lowest
    luma band by 1 %, which is a quantiser step of high qualities.
    """

    colour: Tensor
    mean: Tensor
    channels: Tensor
    deviation: Tensor

    def __init__(self, groups: Sequence[int]) -> None:
        super().__init__()
        self._groups = list(groups)
        # orthonormal luminance / opponent axes until ``calibrate`` has seen photographs
        axes = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [-0.5, 1.0, -0.5]])
        self.register_buffer("colour", axes / axes.norm(dim=1, keepdim=True))
        self.register_buffer("mean", torch.full((3,), 0.45))
        falloff = self._default_deviation()
        order = self._order(falloff)
        self.register_buffer("channels", order)
        self.register_buffer("deviation", falloff[order])

    def _order(self, energy: Tensor) -> Tensor:
        """The channels of most energy, group by group; within a group those of one place in every
        2x2 coefficients of a band together, so that a sub-group lies between the ones before
        it. Bands of one coefficient are dealt out by colour and orientation."""
        places = [torch.arange(3)]
        for level in range(LEVELS, 0, -1):
            side = 2 ** (LEVELS - level)
            if side == 1:
                place = torch.arange(9) // 3 + torch.arange(9) % 3
            else:
                row, column = torch.arange(side)[:, None] % 2, torch.arange(side) % 2
                # the diagonal first: (0, 0), (1, 1), (0, 1), (1, 0)
                place = (2 * (row ^ column) + row).flatten().repeat(9)
            places.append(place % 4)
        place = torch.cat(places[::-1])
        order = torch.argsort(energy, descending=True, stable=True)[: sum(self._groups)]
        parts = order.split(self._groups)
        return torch.cat([part[torch.argsort(place[part], stable=True)] for part in parts])

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

    def all_channels(self, x: Tensor) -> Tensor:
        """All channels (B, 768, H/16, W/16), finest level first, also those not kept."""
        low = torch.einsum("dc,bchw->bdhw", self.colour, x - self.mean.view(1, 3, 1, 1))
        parts = []
        for level in range(1, LEVELS + 1):
            low, *details = analyse(low)
            bands = torch.stack(details, dim=2).flatten(1, 2)
            parts.append(F.pixel_unshuffle(bands, 2 ** (LEVELS - level)))
        return torch.cat([*parts, low], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.all_channels(x)[:, self.channels]

    def inverse(self, y: Tensor) -> Tensor:
        """Image of the kept channels, the others zero."""
        with torch.autocast(y.device.type, enabled=False):
            return self._inverse(y)

    def _inverse(self, y: Tensor) -> Tensor:
        *parts, low = self._all_kept(y).split(SIZES, dim=1)
        for level in range(LEVELS, 0, -1):
            bands = F.pixel_shuffle(parts[level - 1], 2 ** (LEVELS - level)).unflatten(1, (3, 3))
            low = synthesise(torch.stack([low, *bands.unbind(2)]))
        return torch.einsum("dc,bdhw->bchw", self.colour, low) + self.mean.view(1, 3, 1, 1)

    def _all_kept(self, y: Tensor) -> Tensor:
        """All channels of the kept ones, the others zero."""
        batch, _, height, width = y.shape
        packed = y.new_zeros(batch, PACKED, height, width)
        # plane by plane: between channels that lie beside each other it takes 3 times as long
        return packed.index_copy(1, self.channels, y.contiguous())

    def halves(self, y: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
        """What kept channels (B, M, h, w) hold of the two finest levels, by level: the picture's
        planes at that level's resolution (B, 3, n h, n w), n = 16 / 2**level, without the level's
        own bands, and these bands (B, 3, 3, n h, n w), plane by plane, zero where not kept; in
        fixed point."""
        *parts, low = self._all_kept(y).split(SIZES, dim=1)
        found = {}
        for level in range(LEVELS, 0, -1):
            bands = F.pixel_shuffle(parts[level - 1], 2 ** (LEVELS - level)).unflatten(1, (3, 3))
            found[level] = low, bands
            if level > 1:
                low = fixed.synthesise(torch.stack([low, *bands.unbind(2)]), PER_UNIT)
        return {level: found[level] for level in (2, 1)}

    def colour_bands(self, x: Tensor) -> dict[int, Tensor]:
        """Bands (B, 2, 3, H, W) of the two finest levels, of both colour planes of differences x
        (B, 3, H, W), by level."""
        low = torch.einsum("dc,bchw->bdhw", self.colour[1:], x)
        found = {}
        for level in (1, 2):
            low, *details = analyse(low)
            found[level] = torch.stack(details, dim=2)
        return found

    def colour_differences(self, bands: dict[int, Tensor]) -> Tensor:
        """Inverse of ``colour_bands``, with nothing coarser."""
        low = torch.zeros_like(bands[2][:, :, 0])
        for level in (2, 1):
            low = synthesise(torch.stack([low, *bands[level].unbind(2)]))
        return torch.einsum("dc,bdhw->bchw", self.colour[1:], low)

    @staticmethod
    def by_planes(channels: Tensor) -> Tensor:
        """What belongs to all channels (768, ...) as (3, 256, ...): plane by plane of the colour
        axes, each in the same order."""
        levels = channels.split(SIZES)
        return torch.cat([level.unflatten(0, (3, -1)) for level in levels], dim=1)

    def shares(self) -> Tensor:
        """Where the square of a kept channel lies in the picture, coarsely: what it adds to the
        mean, over pixels, of the sum over colours in each 4x4 pixels, (M, BLOCKS**2), blocks row by
        row."""
        parts = []
        for level in range(1, LEVELS + 1):
            side = 2 ** (LEVELS - level)
            # of a coefficient at each place of a band: which blocks it falls on, 4**-level a pixel
            places = torch.eye(side**2, dtype=self.deviation.dtype).view(-1, 1, side, side)
            if side > BLOCKS:
                blocks = F.avg_pool2d(places, side // BLOCKS)
            else:
                blocks = F.interpolate(places, scale_factor=BLOCKS // side)
            parts.append((blocks / 4**level).flatten(1).repeat(9, 1))
        low = parts[-1][:3]
        return torch.cat([*parts, low]).to(self.deviation)[self.channels]

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Set colour axes (KLT), kept channels and their deviations from photographs ``x``."""
        pixels = rearrange(x, "b c h w -> c (b h w)").double()
        self.mean.copy_(pixels.mean(dim=1))
        _, axes = torch.linalg.eigh(torch.cov(pixels))
        axes = axes.flip(1).T
        self.colour.copy_(axes * torch.sign(axes.sum(dim=1, keepdim=True)))
        energy = self.all_channels(x).double().pow(2).mean(dim=(0, 2, 3))
        order = self._order(energy)
        self.channels.copy_(order)
        self.deviation.copy_(energy[order].sqrt())
