"""Slices of a group's channels: coded one after the other within a step, at the same positions.

The prior of a step knows earlier groups and lattices, but not the other channels of its own. Most
of them are the same wavelet band at neighbouring pixels, so what the slices before turned out to
be, against their priors, says how right the prior of the next one is: where they are larger than
expected, so is it. Positions are treated alike and alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambaic.coding.priors import Prior
from mambaic.coding.schedule import Site
from mambaic.coding.tables import LOG_MIN
from mambaic.nn.blocks import zero_start
from mambaic.nn.parts import WHOLE_POSITIONS, whole

MAGNITUDES = 3  # features of a coded latent that do not know its sign
DEVIATIONS_MAX = 4.0


class RowConv2d(nn.Conv2d):
    """1x1 convolution at listed positions, (B, n, C) -> (B, n, out): as a matrix product, which
    takes less time than a convolution where there are few positions."""

    def __init__(self, channels: int, out: int, *, bias: bool = True) -> None:
        super().__init__(channels, out, 1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.flatten(1), self.bias)


def _scale(prior: Prior) -> Tensor:
    """Scales of a prior, bounded so that they can be divided by."""
    return torch.exp(prior.log_scale.clamp(min=LOG_MIN))


def surprises(coded: Tensor, prior: Prior) -> tuple[Tensor, Tensor]:
    """What latents (B, n, C) turned out to be: deviations from the mean in units of the scale,
    (B, n, C), and features of their magnitudes, (B, n, 3 C)."""
    scale = _scale(prior)
    residual = coded - prior.mean
    deviation = (residual / scale).clamp(-DEVIATIONS_MAX, DEVIATIONS_MAX)
    energy = torch.log1p(residual.square() / (scale.square() + 0.25))
    # how much energy to expect: next to none of latents whose scale is far under their spacing
    expected = torch.sigmoid(2 * prior.log_scale)
    return deviation, torch.cat([energy, expected, deviation.abs()], dim=-1)


class SliceContext(nn.Module):
    """Corrects the prior of a slice of ``channels`` by the ``before`` channels coded already."""

    def __init__(self, before: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.mean = zero_start(RowConv2d(before, channels, bias=False))
        self.log_scale = zero_start(RowConv2d(MAGNITUDES * before, channels))
        self.hidden = RowConv2d(MAGNITUDES * before + channels, hidden)
        self.out = zero_start(RowConv2d(hidden, channels, bias=False))

    def forward(self, deviation: Tensor, magnitudes: Tensor, prior: Prior) -> Prior:
        """``prior`` of the slice without them, (B, n, channels); the others of those before, as
        ``surprises`` gives them, one slice after the other."""
        scale = _scale(prior)
        hidden = self.hidden(torch.cat([magnitudes, prior.log_scale], dim=-1))
        correction = self.log_scale(magnitudes) + self.out(F.leaky_relu(hidden, 0.1))
        mean = prior.mean + scale * self.mean(deviation)
        return Prior(mean, prior.log_scale + correction)


class Slices(nn.Module):
    """The channels of one group in ``count`` slices of equal width."""

    def __init__(self, channels: int, count: int, hidden: int) -> None:
        super().__init__()
        self.count, self.width = count, channels // count
        self.contexts = nn.ModuleList(
            SliceContext(index * self.width, self.width, hidden) for index in range(1, count)
        )

    def code(self, site: Site, prior: Prior, code: Callable[[Site, Prior], Tensor]) -> Tensor:
        """Code a step slice by slice, each by ``code``: latents (B, channels, h, w), zero off the
        site's lattice."""
        if self.count == 1:
            return code(site, prior)
        where = site.positions(prior.mean)
        coded = []
        deviations: list[Tensor] = []
        magnitudes: list[Tensor] = []
        for index in range(self.count):
            first = index * self.width
            own = Prior(*(t[:, first : first + self.width] for t in (prior.mean, prior.log_scale)))
            here = Prior(_take(own.mean, where), _take(own.log_scale, where))
            if index:
                here = self._correct(index, here, deviations, magnitudes)
                own = Prior(
                    _put(here.mean, where, own.mean), _put(here.log_scale, where, own.log_scale)
                )
            start = site.channels.start + first
            coded.append(code(replace(site, channels=slice(start, start + self.width)), own))
            if index + 1 < self.count:
                deviation, magnitude = surprises(_take(coded[-1], where), here)
                deviations.append(deviation)
                magnitudes.append(magnitude)
        return torch.cat(coded, dim=1)

    def _correct(
        self, index: int, here: Prior, deviations: list[Tensor], magnitudes: list[Tensor]
    ) -> Prior:
        """The prior (B, n, width) of a slice that knows the ones before; of a large tile part by
        part, as the features of all its positions side by side would take 100 MB."""
        count = here.mean.shape[1]
        size = count if whole(count, 1) else WHOLE_POSITIONS
        found = []
        for first in range(0, count, size):
            part = slice(first, first + size)
            deviation, magnitude = (
                torch.cat([rows[:, part] for rows in seen], dim=-1)
                for seen in (deviations, magnitudes)
            )
            own = Prior(here.mean[:, part], here.log_scale[:, part])
            found.append(self.contexts[index - 1](deviation, magnitude, own))
        return Prior(
            torch.cat([own.mean for own in found], dim=1),
            torch.cat([own.log_scale for own in found], dim=1),
        )


def _take(full: Tensor, where: Tensor) -> Tensor:
    """What a map (B, C, h, w) holds at n positions, (B, n, C)."""
    return full.permute(0, 2, 3, 1).flatten(1, 2).index_select(1, where)


def _put(rows: Tensor, where: Tensor, full: Tensor) -> Tensor:
    """The map ``full`` with ``rows`` at n positions, the inverse of ``_take``."""
    everywhere = full.permute(0, 2, 3, 1).flatten(1, 2)
    everywhere = everywhere.index_copy(1, where, rows.to(full.dtype))
    return everywhere.unflatten(1, full.shape[-2:]).permute(0, 3, 1, 2)
