"""Sub-groups of a channel group: coded one after the other within a step, at the same positions.

The prior of a step knows earlier groups and lattices, but not the other channels of its own. Most
of them are the same wavelet band at neighbouring pixels, so the normalised residuals of earlier
sub-groups tell how good the prior of the next one is: where they are larger than expected, so is
its scale. Positions are treated alike and alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import Site
from mambaic.coding.step_coder import StepCoder
from mambaic.coding.tables import LOG_MAX, LOG_MIN
from mambaic.nn.blocks import RowConv2d, zero_start
from mambaic.nn.chunking import at_once, positions_at_once
from mambaic.nn.functions import MAGNITUDES, Move, Normalise, NormalisedResiduals
from mambaic.nn.products import product

BOUNDS = LOG_MIN, LOG_MAX  # of log-scales: those of the tables


class SubGroupContext(nn.Module):
    """Corrects the prior of a sub-group of ``channels`` by the ``before`` channels coded already.

    Which way deviations of one channel point in another depends on the picture (which way an edge
    runs, which colours meet), so a part of the correction is weighted by ``gates``. Without them
    the log-scale has a linear path instead, which costs as much and predicts less.
    """

    def __init__(self, before: int, channels: int, hidden: int, gates: int) -> None:
        super().__init__()
        self.mean = zero_start(RowConv2d(before, channels, bias=False))
        self.hidden = RowConv2d(MAGNITUDES * before + channels, hidden)
        self.out = zero_start(RowConv2d(hidden, channels, bias=gates > 0))
        self.gated = RowConv2d(before, gates, bias=False) if gates else None
        self.gated_mean = zero_start(RowConv2d(gates, channels, bias=False)) if gates else None
        linear = None if gates else zero_start(RowConv2d(MAGNITUDES * before, channels))
        self.log_scale = linear
        self.act, self.move = nn.LeakyReLU(0.1), Move(BOUNDS)

    def forward(self, known: Sequence[NormalisedResiduals], prior: Prior, gates: Tensor) -> Prior:
        """``prior`` (B, n, channels) of the sub-group alone; ``known`` of the sub-groups before;
        gates (B, n, gates)."""
        deviation = _side_by_side([residuals.deviation for residuals in known])
        magnitudes = [residuals.magnitudes for residuals in known]
        features = _side_by_side([*magnitudes, prior.log_scale])
        hidden, moved = product(self.hidden, features, act=self.act), self.mean(deviation)
        if self.gated is not None and self.gated_mean is not None:
            moved = product(self.gated_mean, self.gated(deviation), times=gates, plus=moved)
        log_scale = product(self.out, hidden, plus=prior.log_scale)
        if self.log_scale is not None:
            log_scale = product(self.log_scale, _side_by_side(magnitudes), plus=log_scale)
        return Prior(self.move(prior.mean, prior.log_scale, moved), log_scale)


class SubGroups(nn.Module):
    """The channels of one group in ``count`` sub-groups of equal width."""

    def __init__(self, channels: int, count: int, hidden: int, gates: int) -> None:
        super().__init__()
        self.count = count
        width = channels // count
        self.tanh, self.normalise = nn.Tanh(), Normalise(BOUNDS)
        self.contexts = nn.ModuleList(
            SubGroupContext(index * width, width, hidden, gates) for index in range(1, count)
        )

    def code(self, site: Site, prior: Prior, gates: Tensor, coder: StepCoder) -> Tensor:
        """Code a step sub-group by sub-group: latents, rows (B, n, channels) as those of ``prior``;
        ``gates`` (B, n, gates) before their activation."""
        if self.count == 1:
            return coder.code_alone(site, prior)
        width = prior.mean.shape[-1] // self.count
        means, log_scales = (rows.split(width, dim=-1) for rows in (prior.mean, prior.log_scale))
        alone = [Prior(*of) for of in zip(means, log_scales, strict=True)]
        priors = _Priors(self.contexts, self.normalise, alone, self.tanh(gates))
        return torch.cat(coder.code(site.split(self.count), priors), dim=-1)


class _Priors:
    """Priors of the sub-groups of one step: ``PriorOf``."""

    def __init__(
        self, contexts: nn.ModuleList, normalise: nn.Module, alone: list[Prior], gates: Tensor
    ) -> None:
        """``alone``: priors without the other sub-groups."""
        self._contexts, self._normalise = contexts, normalise
        self._alone, self._gates = alone, gates
        self._known: list[NormalisedResiduals] = []  # of all sub-groups but the last one coded
        self._last: Prior | None = None  # of the last one coded

    def __call__(self, values: Sequence[Tensor]) -> Prior:
        index = len(values)
        own = self._alone[index]
        if index:
            assert self._last is not None
            last = self._last
            self._known.append(self._normalise(values[-1], last.mean, last.log_scale))
            own = _correct(self._contexts[index - 1], own, self._known, self._gates)
        self._last = own
        return own


def _side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Rows (B, n, C) of parts of the channels."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=-1)


def _correct(
    context: nn.Module, own: Prior, known: list[NormalisedResiduals], gates: Tensor
) -> Prior:
    """The prior of a sub-group that knows the ones before; of a large tile chunk by chunk, as the
    features of all its positions side by side would take 100 MB."""
    count, device = gates.shape[1], gates.device
    size = count if at_once(count, 1, device) else positions_at_once(device)
    found = []
    for first in range(0, count, size):
        chunk = slice(first, first + size)
        of_chunk = [
            NormalisedResiduals(*(rows[:, chunk] for rows in residuals)) for residuals in known
        ]
        found.append(context(of_chunk, own.at(chunk), gates[:, chunk]))
    if len(found) == 1:
        return found[0]
    return Prior(
        torch.cat([chunk.mean for chunk in found], dim=1),
        torch.cat([chunk.log_scale for chunk in found], dim=1),
    )
