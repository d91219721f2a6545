"""Transforms of the published model: strided convolutions, residual blocks and VSS stages.

[Zeng2025] MambaIC, arXiv:2503.12461, Fig. 2: four stages from 1/2 to 1/16, each a resampling
convolution followed by VSS blocks (depths 2, 2, 9, 2 from fine to coarse in the analysis, mirrored
in the synthesis) at width 2N, projected to M latent channels.
Differs: the steps of ``mambaic.nn.gains`` divide the latent, so that this model too has any rate.
"""

from __future__ import annotations

from torch import Tensor, nn

from mambaic.config import ModelConfig
from mambaic.nn.blocks import QualityModulation
from mambaic.nn.gains import QualityCurve
from mambaic.nn.vss import VSSBlock
from mambaic.nn.wavelet import BLOCKS

KERNEL = 5


def _stage(width: int, depth: int, config: ModelConfig) -> list[nn.Module]:
    return [VSSBlock(width, config.vss) for _ in range(depth)]


class ConvTransform(nn.Module):
    """g_a and g_s of the published family; same contract as ``WaveletTransform``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = 2 * config.N
        down: list[nn.Module] = []
        for index, depth in enumerate(config.depths):
            before = 3 if index == 0 else width
            down += [nn.Conv2d(before, width, KERNEL, stride=2, padding=KERNEL // 2)]
            down += _stage(width, depth, config)
        self.analysis = nn.Sequential(*down, nn.Conv2d(width, config.M, 3, padding=1))
        up: list[nn.Module] = [nn.Conv2d(config.M, width, 3, padding=1)]
        for index, depth in enumerate(reversed(config.depths)):
            after = 3 if index == len(config.depths) - 1 else width
            up += _stage(width, depth, config)
            up += [
                nn.ConvTranspose2d(
                    width, after, KERNEL, stride=2, padding=KERNEL // 2, output_padding=1
                )
            ]
        self.synthesis = nn.Sequential(*up)
        self.gain = QualityCurve(config.rate_anchors, config.M)
        self.modulate_in = QualityModulation(config.M)
        self.modulate_out = QualityModulation(config.M)
        self.networks = True

    def g_a(self, x: Tensor, q: Tensor, *, beyond: bool = False) -> Tensor:
        """(B, 3, H, W) in [0, 1], sides multiples of 16 -> (B, M, H/16, W/16)."""
        y = self.modulate_in(self.analysis(x - 0.5), q).float()
        return y * self.gain(q).exp()

    def g_s(self, y_hat: Tensor, q: Tensor) -> Tensor:
        """(B, M, h, w) -> (B, 3, 16h, 16w), not clamped."""
        y = y_hat * (-self.gain(q)).exp()
        return self.synthesis(self.modulate_out(y, q)).float() + 0.5

    def error_weights(self, q: Tensor) -> Tensor:
        """Zeros: nothing is known of where in the picture a latent's error lies."""
        return q.new_zeros(self.gain.values.shape[1], BLOCKS**2)
