"""Sub-groups of a channel group: coded one after the other within a step, at the same positions.

The prior of a step knows earlier groups and lattices, but not the other channels of its own. Most
of them are the same wavelet band at neighbouring pixels, so the normalised residuals of earlier
sub-groups tell how good the prior of the next one is: where they are larger than expected, so is
its scale. Positions are treated alike and alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import Site
from mambaic.coding.step_coder import StepCoder
from mambaic.coding.tables import LOG_MAX, LOG_MIN
from mambaic.nn.blocks import RowConv2d, zero_start
from mambaic.nn.chunking import at_once, positions_at_once
from mambaic.nn.functions import Exp, Grid, Log1p

MAGNITUDES = 3  # features of a coded latent that are even in its sign
DEVIATIONS_MAX = 4.0


class NormalisedResiduals(NamedTuple):
    """Residuals of a coded sub-group in units of its scale, rows (B, n, C), and features of their
    magnitudes, rows (B, n, 3 C)."""

    deviation: Tensor
    magnitudes: Tensor


def bounded(log_scale: Tensor) -> Tensor:
    """Log-scales within those of the tables: no scale is 0, and a sub-group far from its mean moves
    the mean of the next one no further."""
    return log_scale.clamp(LOG_MIN, LOG_MAX)


class Normalise(nn.Module):
    """``NormalisedResiduals`` of latents (B, n, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.exp, self.log1p, self.sigmoid, self.grid = Exp(), Log1p(), nn.Sigmoid(), Grid()

    def forward(self, coded: Tensor, prior: Prior) -> NormalisedResiduals:
        log_scale = bounded(prior.log_scale)
        residual = coded - prior.mean
        deviation = self.grid(residual / self.exp(log_scale))
        deviation = deviation.clamp(-DEVIATIONS_MAX, DEVIATIONS_MAX)
        energy = self.log1p(self.grid(residual.square() / (self.exp(2 * log_scale) + 0.25)))
        # expected energy: next to none of latents whose scale is far under their spacing
        expected = self.sigmoid(2 * prior.log_scale)
        magnitudes = torch.cat([energy, expected, deviation.abs()], dim=-1)
        return NormalisedResiduals(deviation, magnitudes)


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
        self.act, self.exp, self.grid = nn.LeakyReLU(0.1), Exp(), Grid()

    def forward(self, deviation: Tensor, magnitudes: Tensor, prior: Prior, gates: Tensor) -> Prior:
        """``prior`` (B, n, channels) of the sub-group alone; deviation and magnitudes of the
        sub-groups before, one after the other (``NormalisedResiduals``); gates (B, n, gates)."""
        hidden = self.hidden(torch.cat([magnitudes, prior.log_scale], dim=-1))
        moved, widened = self.mean(deviation), self.out(self.act(hidden))
        if self.gated is not None and self.gated_mean is not None:
            moved = moved + self.gated_mean(self.gated(deviation) * gates)
        if self.log_scale is not None:
            widened = self.log_scale(magnitudes) + widened
        scale = self.exp(bounded(prior.log_scale))
        return Prior(prior.mean + self.grid(scale * moved), prior.log_scale + widened)


class SubGroups(nn.Module):
    """The channels of one group in ``count`` sub-groups of equal width."""

    def __init__(self, channels: int, count: int, hidden: int, gates: int) -> None:
        super().__init__()
        self.count = count
        width = channels // count
        self.tanh, self.normalise = nn.Tanh(), Normalise()
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
            self._known.append(self._normalise(values[-1], self._last))
            own = _correct(self._contexts[index - 1], own, self._known, self._gates)
        self._last = own
        return own


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
        deviation, magnitudes = (
            torch.cat([rows[:, chunk] for rows in features], dim=-1)
            for features in zip(*known, strict=True)
        )
        found.append(context(deviation, magnitudes, own.at(chunk), gates[:, chunk]))
    if len(found) == 1:
        return found[0]
    return Prior(
        torch.cat([chunk.mean for chunk in found], dim=1),
        torch.cat([chunk.log_scale for chunk in found], dim=1),
    )
