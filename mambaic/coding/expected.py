"""How far decoded latents may be off: what a decoder knows besides their values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mambaic.coding.priors import Prior
from mambaic.coding.schedule import Site

if TYPE_CHECKING:
    from mambaic.coding.coders import Ahead, StepCoder

# of coded latents, whose quantisers are 1.75 apart: 1.75**2 / 12, less what the trellis gains
CODED = 0.2


class ErrorWatch:
    """Passes a walk on to a coder; collects the squared error to expect of each latent of y.

    ``error`` (1, M, h, w): the square of the prior's scale where that is small, as what is not
    coded is off by all of its residual; ``CODED`` where it is large.
    """

    def __init__(self, coder: StepCoder, y_size: tuple[int, ...], device: torch.device) -> None:
        self._coder = coder
        self.error = torch.zeros(y_size, device=device)

    def code(self, site: Site, prior: Prior, ahead: Ahead | None = None) -> Tensor:
        if site.latent == "y":
            rows = torch.exp(2 * prior.log_scale).clamp(max=CODED).to(self.error.dtype)
            height, width = self.error.shape[-2:]
            self.error[:, site.channels] += site.lattice.put(rows, (height, width))
        return self._coder.code(site, prior, ahead)
