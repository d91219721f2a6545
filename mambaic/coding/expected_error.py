"""Expected squared error of decoded latents, which a decoder knows besides their values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import Lattice, Site
from mambaic.coding.step_coder import PriorOf, StepCoder
from mambaic_kernels.coding_order import add_errors

# squared error of coded latents: 1.75**2 / 12 for a spacing of 1.75, less the gain of TCQ
CODED = 0.2


class ErrorWatch(StepCoder):
    """Passes a walk on to a coder; adds up the squared errors to expect of the latents of y.

    That of a latent is the square of its prior's scale where that is small, as what is not coded is
    off by all of its residual; ``CODED`` where it is large. ``weights`` (M, n) are those of the
    channels in n sums at every position: ``error`` (B, n, h, w). A map of all channels would take
    the memory of y once more.
    """

    def __init__(
        self, coder: StepCoder, weights: Tensor, size: tuple[int, int], batch: int = 1
    ) -> None:
        self._coder = coder
        self._weights = weights
        self.error = weights.new_zeros(batch, weights.shape[1], *size)

    def code(self, sites: Sequence[Site], prior_of: PriorOf) -> list[Tensor]:
        log_scales: list[Tensor] = []

        def watched(values: Sequence[Tensor]) -> Prior:
            prior = prior_of(values)
            log_scales.append(prior.log_scale)
            return prior

        coded = self._coder.code(sites, watched)
        if sites[0].latent == "y":
            channels = slice(sites[0].channels.start, sites[-1].channels.stop)
            self._add(sites[0].lattice, channels, torch.cat(log_scales, dim=-1))
        return coded

    def _add(self, lattice: Lattice, channels: slice, log_scale: Tensor) -> None:
        """Of a step at once: rows (B, n, C) of all its sub-groups."""
        add_errors(self.error, log_scale, self._weights[channels], lattice.value, CODED)

    def _code_sub_group(self, site: Site, prior: Prior) -> Tensor:
        raise AssertionError("the coder inside codes")
