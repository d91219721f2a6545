"""One channel group of the entropy model: what its coding steps are conditioned on.

[Zeng2025] MambaIC, arXiv:2503.12461, Sec. 3.3: channel groups x checkerboard, hidden state refined
by VSS blocks and window attention. [He2022] ELIC, arXiv:2203.10886: uneven groups.
Differs from [Zeng2025] in presets s and b: one set of refining blocks serves all groups, and the
hidden state is carried from group to group instead of being rebuilt from all decoded groups, and
the anchors of the first group, half of them blind guesses of the local brightness otherwise, are
coded coarse to fine (hierarchical progressive context, [Li2025] HPCM, arXiv:2507.19125). Within a
step channels are coded in sub-groups (``entropy_model.sub_groups``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import CHECKERBOARD, COARSE_TO_FINE, DISTANCES, Lattice, Site
from mambaic.coding.step_coder import StepCoder
from mambaic.config import ModelConfig
from mambaic.entropy_model.sub_groups import SubGroups
from mambaic.nn.blocks import FeatureConv2d, GridConv2d, QualityModulation, RowConv2d
from mambaic.nn.functions import Grid
from mambaic.nn.gains import TypicalScale
from mambaic.nn.products import Affine, product


class PriorHead(nn.Module):
    """Hidden state (B, C, h, w) -> prior of ``channels`` latents on one lattice and ``gates`` for
    its sub-groups, rows (B, n, gates). Means and log-scales are in units of the latents'
    ``TypicalScale`` at this quality."""

    def __init__(
        self, width: int, channels: int, kernel: int, lattice: Lattice, gates: int
    ) -> None:
        super().__init__()
        self.lattice = lattice
        self.split = [channels, channels, gates]
        self.conv1 = GridConv2d(width, width, kernel)
        self.conv2 = RowConv2d(width, sum(self.split))
        self.act = nn.LeakyReLU(0.1)
        with torch.no_grad():
            self.conv2.weight.mul_(0.1)
            nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, state: Tensor, typical: Affine) -> tuple[Prior, Tensor]:
        hidden = product(self.conv1, state, self.lattice.value, act=self.act)
        out = product(self.conv2, hidden, affine=typical)
        mean, log_scale, gates = out.split(self.split, dim=-1)
        return Prior(mean, log_scale), gates


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
        gates = config.slice_gates if config.slices > 1 else 0
        self.anchor = PriorHead(width, channels, 1, first, gates)
        self.between_spatial = nn.ModuleList(
            FeatureConv2d(channels, width, dilation=distance)
            for distance in DISTANCES[: len(between)]
        )
        self.between = nn.ModuleList(PriorHead(width, channels, 1, x, gates) for x in between)
        self.spatial = FeatureConv2d(channels, width)
        self.non_anchor = PriorHead(width, channels, 3, last, gates)
        self.slices = SubGroups(channels, config.slices, config.slice_width, gates)
        self.typical = TypicalScale(config.rate_anchors, channels, gates)
        self.tanh, self.grid = nn.Tanh(), Grid()
        self.lrp = nn.Conv2d(width + channels, channels, 3, padding=1) if config.lrp else None

    def state(self, state: Tensor, decoded: Tensor | None) -> Tensor:
        """Hidden state with the group decoded last taken in."""
        if self.absorb is None or decoded is None:
            return state
        return product(self.absorb, decoded, plus=state)

    def code(
        self, step: int, support: Tensor, y_hat: Tensor | None, q: Tensor, coder: StepCoder
    ) -> Tensor:
        """Code the ``step``-th lattice; return what it and the ones before it hold, ``y_hat``
        (B, channels, h, w), which is zero elsewhere."""
        spatial = [*self.between_spatial, self.spatial]
        heads = [self.anchor, *self.between, self.non_anchor]
        lattice, size = self.lattices[step], (support.shape[-2], support.shape[-1])
        if y_hat is not None:
            support = product(spatial[step - 1], y_hat, plus=support)
        prior, gates = heads[step](support, self.typical(q))
        rows = self.slices.code(Site("y", self.channels, lattice), prior, gates, coder)
        coded = lattice.put(rows, size)
        return coded if y_hat is None else y_hat + coded

    def refine(self, support: Tensor, y_hat: Tensor) -> Tensor:
        """Add the latent residual prediction, within half a step ([Minnen2020])."""
        if self.lrp is None:
            return y_hat
        residual = self.lrp(torch.cat([support, y_hat.to(support.dtype)], dim=1))
        return y_hat + self.grid(0.5 * self.tanh(residual)).to(y_hat.dtype)
