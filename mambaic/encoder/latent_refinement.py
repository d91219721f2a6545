"""Latents refined for one picture: less error in as many bits, for encoding time alone.

g_a is optimal over all pictures, not for one. Gradient descent on the latents through walk and
synthesis finds the difference, as in [Campos2019] (Content Adaptive Optimization for Neural
Image Compression, arXiv:1906.01223). Every step runs the TCQ search of files; gradients pass it
by the response of training, at first of a much larger width, so that latents learn of values
further away. The decoder knows nothing of it. A large picture is refined block by block, so memory
is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mambaic.coding.estimator import Estimator, TableEstimator
from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import Site
from mambaic.config import TRAINED
from mambaic.models.model import MambaIC
from mambaic.nn.gains import fineness
from mambaic.nn.precision import multiplies_bfloat16
from mambaic.reconstruction.rotation import IDENTITY, Rotation
from mambaic.tiling.analysis import visible_region
from mambaic.tiling.boxes import Box, cut, grow, inside
from mambaic.tiling.memory import return_memory

BLOCK = 48  # side of what is refined at once, in latents
HALO = 4  # neighbours that see a block change; multiple of 4, as the walk wants
# Plain descent, every latent alike: lmbda 255**2 mse has nearly the same curvature along all of
# them, 20 to 30 bits per squared quantiser step (the best uniform quantiser of a high rate leaves
# 12 / ln 2). Adam, which moves idle latents as far as others, gains less.
LEARNING_RATE = 1.65e-3  # quantiser steps per bit, over the root of the number of steps
MOMENTUM = 0.8
GRADIENT_MAX = 200.0  # bits per quantiser step: seldom reached, never left to one latent
WIDTHS = (0.2, 0.08)  # of the response, first and last: from a narrow one alone, less is learned
# Refined latents want a coarser quantiser than their lmbda was trained with: error is weighed by
# the lmbda of a quality this much higher.
QUALITY_OFFSET = 3.0


class RefiningEstimator(TableEstimator):
    """As in training, but a latent that files skip costs what a 0 does: its scale must not learn
    that it were worth its bits."""

    def _rated(self, site: Site, residual: Tensor, quantised: Tensor, prior: Prior) -> Tensor:
        return super()._rated(site, residual, self._seen(site, quantised, prior), prior)


def blocks(box: Box) -> list[Box]:
    """The parts of a tile that are refined one after the other."""
    return cut(box, BLOCK)


def refine(
    model: MambaIC,
    pixels: np.ndarray,
    box: Box,
    y: Tensor,
    quality: float,
    steps: int,
    done: Callable[[], None] = lambda: None,
    rotation: Rotation = IDENTITY,
) -> Tensor:
    """Latents (1, M, rows, columns) of a tile ``box`` of the picture (H, W, 3) uint8, with less of

        bits + lmbda 255**2 mse pixels,  lmbda that of ``quality`` + QUALITY_OFFSET,

    than ``y`` has, or equal to it. The same on every call; ``done`` is called after each block.
    """
    y = y.clone()
    parts = blocks(box)
    for block in parts:
        outer = grow(block, HALO, box)
        where = (..., *inside(outer, box))
        # what lies beyond the picture costs nothing
        x = rotation.rotate(visible_region(pixels, outer).to(y.device))
        task = _Block(model, x, quality)
        before = y[where]
        after = before.clone()
        changed = (..., *inside(block, outer))
        after[changed] = task.descend(before, steps)[changed]
        if task.cost(after) < task.cost(before):
            y[where] = after
        if len(parts) > 1:
            return_memory()
        done()
    return y


class _Block:
    """Rate-distortion cost of latents of one region, x (1, 3, <= 16 h, <= 16 w)."""

    def __init__(self, model: MambaIC, x: Tensor, quality: float) -> None:
        self._model = model
        self._x = x
        self._q, self._beyond = x.new_tensor([quality]), quality > TRAINED
        self._weight = model.config.error_weight(quality + QUALITY_OFFSET)

    def _total(self, y_hat: Tensor, estimator: Estimator) -> Tensor:
        return self._model.cost(y_hat, estimator, self._x, self._q, self._weight)

    @torch.no_grad()
    def cost(self, y: Tensor) -> float:
        """Of ``y`` as it would be coded."""
        estimate = self._model.entropy_model.estimate(y, self._q, beyond=self._beyond)
        return float(self._total(*estimate))

    def descend(self, start: Tensor, steps: int) -> Tensor:
        """``start`` after ``steps`` of descent under falling width and rate."""
        entropy_model = self._model.entropy_model
        with torch.no_grad():
            z = entropy_model.h_a(start, self._q).to(start.dtype)
        mixture = entropy_model.mixture()
        finer = fineness(self._model.config, self._q)[:, None, None, None]
        first, last = WIDTHS
        in_bfloat16 = multiplies_bfloat16(start.device)
        with torch.enable_grad():
            y = start.clone().requires_grad_()
            # beyond what the networks know the same move is so many steps of what is coded
            peak = LEARNING_RATE / math.sqrt(max(1, steps)) / float(finer) ** 2
            optimiser = torch.optim.SGD([y], lr=peak, momentum=MOMENTUM)
            for step in range(steps):
                width = first * (last / first) ** (step / steps)
                for group in optimiser.param_groups:
                    group["lr"] = peak * min(1.0, 2.0 * (1.0 - step / steps))
                latents = {"y": y * finer, "z": z}
                estimator = RefiningEstimator(latents, mixture, width)
                with torch.autocast(y.device.type, dtype=torch.bfloat16, enabled=in_bfloat16):
                    y_hat = entropy_model.walk(
                        (z.shape[-2], z.shape[-1]), self._q, estimator, beyond=self._beyond
                    )
                    total = self._total(y_hat, estimator)
                (y.grad,) = torch.autograd.grad(total, [y])
                torch.nn.utils.clip_grad_value_([y], GRADIENT_MAX)
                optimiser.step()
        return y.detach()
