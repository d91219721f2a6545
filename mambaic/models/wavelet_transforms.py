"""Analysis g_a and synthesis g_s of the wavelet family.

It adds networks to a linear codec that works from the first step:

    y     = wavelet(x) / step(q) + net_a(x, wavelet(x) / step(q))
    x_lin = wavelet^-1(y_hat * step(q));   x_hat = x_lin + net_s(y_hat, x_lin)

(an auxiliary linear shortcut as in [Li2025] AuxT, arXiv:2410.09387). Both nets start at zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mambaic.config import TRAINED, ModelConfig
from mambaic.entropy_model import colour_blocks
from mambaic.entropy_model.fine_colour import BANDS, CODED, NAMES, Level
from mambaic.fixed_point.curves import FixedQualityCurve
from mambaic.fixed_point.functions import FixedExp
from mambaic.nn.blocks import QualityModulation, make_blocks, zero_start
from mambaic.nn.functions import log_features
from mambaic.nn.gains import QuantiserStep, fineness, linear_step
from mambaic.nn.grid import to_grid
from mambaic.nn.sampling import Down, Up
from mambaic.nn.wavelet import WaveletPacking

EXACT_FROM = 10.0  # qualities beyond TRAINED: from there on latents stand for the picture exactly


class WaveletAnalysis(nn.Module):
    """net_a: (B, 3, H, W) and its linear latent (B, M, H/16, W/16) -> correction of the latent."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.stem = Down(3, config.width8, 8)
        self.modulate8 = QualityModulation(config.width8)
        self.blocks8 = make_blocks(config.analysis8, config.width8, config)
        self.down = Down(config.width8, config.width16)
        self.linear = nn.Conv2d(2 * config.M, config.width16, 1)
        self.modulate16 = QualityModulation(config.width16)
        self.blocks16 = make_blocks(config.analysis16, config.width16, config)
        self.out = zero_start(nn.Conv2d(config.width16, config.M, 1))

    def forward(self, x: Tensor, y_linear: Tensor, q: Tensor) -> Tensor:
        t = self.blocks8(self.modulate8(self.stem(x - 0.5), q))
        t = self.down(t) + self.linear(log_features(y_linear))
        return self.out(self.blocks16(self.modulate16(t, q)))


class WaveletSynthesis(nn.Module):
    """net_s: y_hat (B, M, h, w) and linear image (B, 3, 16h, 16w) -> correction of the image."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.stem16 = nn.Conv2d(2 * config.M, config.width16, 1)
        self.modulate16 = QualityModulation(config.width16)
        self.blocks16 = make_blocks(config.synthesis16, config.width16, config)
        self.up = Up(config.width16, config.width8)
        self.stem8 = Down(3, config.width8, 8)
        self.modulate8 = QualityModulation(config.width8)
        self.blocks8 = make_blocks(config.synthesis8, config.width8, config)
        self.out = Up(config.width8, 3, 8)
        zero_start(self.out.conv)

    def forward(self, y_hat: Tensor, x_linear: Tensor, q: Tensor) -> Tensor:
        t = self.blocks16(self.modulate16(self.stem16(log_features(y_hat)), q))
        t = self.up(t) + self.stem8(x_linear - 0.5)
        return self.out(self.blocks8(self.modulate8(t, q)))


class WaveletTransform(nn.Module):
    """g_a and g_s of the wavelet family. ``networks=False`` leaves the linear codec alone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.wavelet = WaveletPacking(config.groups)
        self.step = QuantiserStep(config)
        self.analysis = WaveletAnalysis(config)
        self.synthesis = WaveletSynthesis(config)
        self.networks = True
        self.config = config

    def g_a(self, x: Tensor, q: Tensor, *, beyond: bool = False) -> Tensor:
        """(B, 3, H, W) in [0, 1], sides multiples of 16 -> (B, M, H/16, W/16). ``beyond``: some
        qualities are beyond TRAINED, which must not be read from a GPU."""
        with torch.no_grad():
            packed = self.wavelet(x)
        step = self.step(q)
        y = packed / step
        if not self.networks:
            return y
        y = y + self.analysis(x, y, q).to(y.dtype)
        if beyond:
            # the error of g_s alone is small beside the quantiser's up to there, and larger beyond
            share = ((q - TRAINED) / EXACT_FROM).clamp(0.0, 1.0)[:, None, None, None]
            y = y + share * self.missed(x, y, q) / step
        return y

    @torch.no_grad()
    def missed(self, x: Tensor, y: Tensor, q: Tensor) -> Tensor:
        """Wavelet channels (B, M, H/16, W/16) of what g_s misses of x (B, 3, H, W)."""
        return self.wavelet(x - self.g_s(y, q) + self.wavelet.mean.view(1, 3, 1, 1))

    def g_s(self, y_hat: Tensor, q: Tensor) -> Tensor:
        """(B, M, h, w) -> (B, 3, 16h, 16w), not clamped."""
        x_linear = self.wavelet.inverse(y_hat * self.step(q))
        if not self.networks:
            return x_linear
        return x_linear + self.synthesis(y_hat, x_linear, q).to(x_linear.dtype)

    def error_weights(self, q: Tensor) -> Tensor:
        """What squared errors of latents, as they are coded, add to those of pixels, at one quality
        (1,): as ``WaveletPacking.shares``."""
        step = self.step(q).flatten() / fineness(self.config, q)
        return self.wavelet.shares() * step[:, None] ** 2

    @torch.no_grad()
    def known_colours(self, y_hat: Tensor, quality: float, lag: float) -> dict[int, Level]:
        """As ``colour_blocks.Known.levels``: in fixed point, as the walk."""
        steps = FixedQualityCurve(self.step)(y_hat.new_tensor([quality]))
        step = linear_step(self.config, quality - lag)
        unit = torch.tensor(math.log(step), dtype=torch.float32)
        shift = to_grid(unit)
        ratio = FixedExp()(steps - shift.to(steps)).to(y_hat)
        return {
            level: Level.of(*halves)
            for level, halves in self.wavelet.halves(to_grid(y_hat * ratio)).items()
        }

    def finest_colours(self, x: Tensor, quality: float) -> dict[str, Tensor]:
        """Bands of differences x (B, 3, H, W) that the groups leave out, by the names of their
        latents, in steps of the quantiser."""
        unit = linear_step(self.config, quality)
        found: dict[str, Tensor] = {}
        for level, of in self.wavelet.colour_bands(x).items():
            coded = [of[:, plane - 1, band] for plane, band in CODED[level]]
            found[NAMES[level]] = torch.stack(coded, dim=1) / unit
        return found

    def reconstruct_colours(self, packed: Tensor, quality: float) -> Tensor:
        """Differences (B, 3, 16 h, 16 w) that finest colours, packed (B, n, h, w), make."""
        bands = {}
        for level, coded in colour_blocks.unpack(packed).items():
            of = coded.new_zeros(len(coded), 2, BANDS, *coded.shape[-2:])
            for index, (plane, band) in enumerate(CODED[level]):
                of[:, plane - 1, band] = coded[:, index]
            bands[level] = of * linear_step(self.config, quality)
        return self.wavelet.colour_differences(bands)
