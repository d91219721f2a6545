"""One channel group of the entropy model: what its coding steps are conditioned on.

[Zeng2025] MambaIC, arXiv:2503.12461, Sec. 3.3: channel groups x checkerboard, hidden state refined
by VSS blocks and window attention. [He2022] ELIC, arXiv:2203.10886: uneven groups.
Differs from [Zeng2025] in presets s and b: one set of refining blocks serves all groups, and the
hidden state is carried from group to group instead of being rebuilt from all decoded groups, and
the anchors of the first group, half of them blind guesses of the local brightness otherwise, are
coded coarse to fine (hierarchical progressive context, [Li2025] HPCM, arXiv:2507.19125). Within a
step channels are coded in slices (``mambaic.slices``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambaic.coding.priors import Prior
from mambaic.coding.schedule import CHECKERBOARD, COARSE_TO_FINE, DISTANCES, Lattice
from mambaic.config import ModelConfig
from mambaic.nn.blocks import FeatureConv2d, GridConv2d, QualityModulation
from mambaic.rate import RateCurve
from mambaic.slices import Slices


class PriorHead(nn.Module):
    """Hidden state (B, C, h, w) -> mean and log-scale of ``channels`` latents on one lattice, in
    units of their typical log-scale at this quality (B, channels, 1, 1)."""

    def __init__(self, width: int, channels: int, kernel: int, lattice: Lattice) -> None:
        super().__init__()
        self.lattice = lattice
        self.conv1 = GridConv2d(width, width, kernel)
        self.conv2 = nn.Conv2d(width, 2 * channels, 1)
        with torch.no_grad():
            self.conv2.weight.mul_(0.1)
            nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, state: Tensor, typical: Tensor) -> Prior:
        batch, _, height, width = state.shape
        out = typical.new_zeros(batch, self.conv2.out_channels, height, width)
        for grid in self.lattice.value:
            out[(..., *grid.slices)] = self.conv2(F.leaky_relu(self.conv1(state, *grid), 0.1))
        mean, log_scale = out.chunk(2, dim=1)
        return Prior(mean * torch.exp(typical), log_scale + typical)


class ChannelGroup(nn.Module):
    """Networks of one channel group; ``before`` is the width of the group decoded last."""

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        width, channels = config.context_width, config.groups[index]
        start = sum(config.groups[:index])
        self.channels = slice(start, start + channels)
        before = config.groups[index - 1] if index else 0
        self.absorb = FeatureConv2d(before, width) if before else None
        self.modulate = QualityModulation(width)
        fine = index < config.coarse_to_fine
        self.lattices = COARSE_TO_FINE if fine else CHECKERBOARD
        first, *between, last = self.lattices
        self.anchor = PriorHead(width, channels, 1, first)
        self.between_spatial = nn.ModuleList(
            FeatureConv2d(channels, width, dilation=distance)
            for distance in DISTANCES[: len(between)]
        )
        self.between = nn.ModuleList(PriorHead(width, channels, 1, x) for x in between)
        self.spatial = FeatureConv2d(channels, width)
        self.non_anchor = PriorHead(width, channels, 3, last)
        self.slices = Slices(channels, config.slices, config.slice_width)
        self.typical = RateCurve(config.rate_anchors, channels)
        self.lrp = nn.Conv2d(width + channels, channels, 3, padding=1) if config.lrp else None

    def state(self, state: Tensor, decoded: Tensor | None) -> Tensor:
        """Hidden state with the group decoded last taken in."""
        if self.absorb is None or decoded is None:
            return state
        return state + self.absorb(decoded)

    def prior(self, step: int, support: Tensor, y_hat: Tensor | None, q: Tensor) -> Prior:
        """Prior of the ``step``-th lattice, meaningless elsewhere; ``y_hat`` is what the lattices
        before it hold, and zero elsewhere."""
        spatial = [*self.between_spatial, self.spatial]
        heads = [self.anchor, *self.between, self.non_anchor]
        if y_hat is not None:
            support = support + spatial[step - 1](y_hat)
        prior: Prior = heads[step](support, self.typical(q))
        return prior

    def refine(self, support: Tensor, y_hat: Tensor) -> Tensor:
        """Add the latent residual prediction, within half a step ([Minnen2020])."""
        if self.lrp is None:
            return y_hat
        residual = self.lrp(torch.cat([support, y_hat.to(support.dtype)], dim=1))
        return y_hat + 0.5 * torch.tanh(residual).to(y_hat.dtype)
