"""Slices of a group's channels: coded one after the other within a step, at the same positions.

The prior of a step knows earlier groups and lattices, but not the other channels of its own. Most
of them are the same wavelet band at neighbouring pixels, so what the slices before turned out to
be, against their priors, says how right the prior of the next one is: where they are larger than
expected, so is it. Positions are treated alike and alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambaic.coding.priors import Prior
from mambaic.coding.schedule import Lattice
from mambaic.coding.tables import LOG_MIN
from mambaic.nn.blocks import zero_start

MAGNITUDES = 3  # features of a coded latent that do not know its sign
DEVIATIONS_MAX = 4.0


def surprises(coded: Tensor, prior: Prior) -> tuple[Tensor, Tensor]:
    """What latents (B, C, h, w) turned out to be: deviations from the mean in units of the scale,
    (B, C, h, w), and features of their magnitudes, (B, 3 C, h, w)."""
    scale = torch.exp(prior.log_scale.clamp(min=LOG_MIN))
    residual = coded - prior.mean
    deviation = (residual / scale).clamp(-DEVIATIONS_MAX, DEVIATIONS_MAX)
    energy = torch.log1p(residual.square() / (scale.square() + 0.25))
    # how much energy to expect: next to none of latents whose scale is far under their spacing
    expected = torch.sigmoid(2 * prior.log_scale)
    return deviation, torch.cat([energy, expected, deviation.abs()], dim=1)


class SliceContext(nn.Module):
    """Corrects the prior of a slice of ``channels`` by the ``before`` channels coded already."""

    def __init__(self, before: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.mean = zero_start(nn.Conv2d(before, channels, 1, bias=False))
        self.log_scale = zero_start(nn.Conv2d(MAGNITUDES * before, channels, 1))
        self.hidden = nn.Conv2d(MAGNITUDES * before + channels, hidden, 1)
        self.out = zero_start(nn.Conv2d(hidden, channels, 1, bias=False))

    def forward(
        self, deviation: Tensor, magnitudes: Tensor, prior: Prior
    ) -> tuple[Tensor, Tensor]:
        """Mean and log-scale (B, channels, h, w) from the ``prior`` without them; the others of
        the slices before, as ``surprises`` gives them, one slice after the other."""
        scale = torch.exp(prior.log_scale.clamp(min=LOG_MIN))
        hidden = self.hidden(torch.cat([magnitudes, prior.log_scale], dim=1))
        correction = self.log_scale(magnitudes) + self.out(F.leaky_relu(hidden, 0.1))
        return prior.mean + scale * self.mean(deviation), prior.log_scale + correction


class Slices(nn.Module):
    """The channels of one group in ``count`` slices of equal width."""

    def __init__(self, channels: int, count: int, hidden: int) -> None:
        super().__init__()
        self.count, self.width = count, channels // count
        self.contexts = nn.ModuleList(
            SliceContext(index * self.width, self.width, hidden) for index in range(1, count)
        )

    def code(
        self, lattice: Lattice, prior: Prior, code: Callable[[slice, Prior], Tensor]
    ) -> Tensor:
        """Code a step slice by slice: latents (B, channels, h, w), zero off the lattice.

        ``code`` is given channels and their prior and returns their latents, zero off the lattice.
        """
        coded = []
        seen: list[list[tuple[Tensor, Tensor]]] = [[] for _ in lattice.value]
        for index in range(self.count):
            channels = slice(index * self.width, (index + 1) * self.width)
            own = Prior(prior.mean[:, channels], prior.log_scale[:, channels])
            if index:
                own = self._correct(index, own, lattice, seen)
            coded.append(code(channels, own))
            if index + 1 < self.count:
                for grid, known in zip(lattice.value, seen, strict=True):
                    at = (..., *grid.slices)
                    found = Prior(own.mean[at], own.log_scale[at])
                    known.append(surprises(coded[-1][at], found))
        return torch.cat(coded, dim=1)

    def _correct(
        self,
        index: int,
        prior: Prior,
        lattice: Lattice,
        seen: list[list[tuple[Tensor, Tensor]]],
    ) -> Prior:
        mean, log_scale = prior.mean.clone(), prior.log_scale.clone()
        for grid, known in zip(lattice.value, seen, strict=True):
            at = (..., *grid.slices)
            deviation, magnitudes = (torch.cat(parts, dim=1) for parts in zip(*known, strict=True))
            own = Prior(prior.mean[at], prior.log_scale[at])
            mean[at], log_scale[at] = self.contexts[index - 1](deviation, magnitudes, own)
        return Prior(mean, log_scale)
