"""Latents refined for one picture: less error in as many bits, for encoding time alone.

g_a answers for all pictures at once. What it leaves to gain in one is found by gradient descent on
the latents through walk and synthesis, with rounding relaxed by stochastic Gumbel annealing
([Yang2020] Improving Inference for Neural Image Compression, arXiv:2006.04240, Sec. 3.2). The
decoder knows nothing of it. A large picture is refined block by block, so memory is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from mambaic.coding.coders import Ahead, Estimator, Part
from mambaic.coding.priors import Prior, Shape
from mambaic.coding.schedule import Site
from mambaic.coding.trellis import spacing
from mambaic.model import MambaIC
from mambaic.precision import multiplies_bfloat16
from mambaic.rotation import UNTURNED, Rotation
from mambaic.tiling import Box, cut, grow, inside, return_memory, visible_region

BLOCK = 48  # side of what is refined at once, in latents
STAND_IN = 1.5  # spacing of a rounding whose error is as large as the trellis's
HALO = 4  # neighbours that see a block change; multiple of 4, as the walk wants
# Plain descent, every latent alike: lmbda 255**2 mse has nearly the same curvature along all of
# them, 20 to 30 bits per squared quantiser step (the best uniform quantiser of a high rate leaves
# 12 / ln 2). Adam, which moves idle latents as far as others, gains less.
LEARNING_RATE = 1.65e-3  # quantiser steps per bit, over the root of the number of steps
MOMENTUM = 0.8
GRADIENT_MAX = 200.0  # bits per quantiser step: seldom reached, never left to one latent
TEMPERATURES = (0.7, 0.5)  # as cold as 0.2 gains half as much: the trellis decides anew
NOISE = 0.4  # of the Gumbel difference; all of it would hide the gradient from so few steps
# Refined latents want a coarser quantiser than their lmbda was trained with: error is weighed by
# the lmbda of a quality this much higher.
AHEAD = 3.0


class AnnealedEstimator(Estimator):
    """Prices latents rounded up or down at random, the nearer value the likelier: a mixture of both
    at a high ``temperature``, nearly always the nearer one at a low. z is rounded as in files; for
    y this stands in for the trellis, whose choices have no gradient.
    """

    def __init__(
        self,
        latents: Mapping[str, Tensor],
        shape: Shape,
        temperature: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__(latents, shape, training=True)
        self._temperature = temperature
        self._generator = generator

    def quantise(
        self, site: Site, residual: Tensor, prior: Prior, ahead: Ahead | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        kind = torch.zeros_like(residual, dtype=torch.long)  # of files: unused here
        if site.latent == "z":
            rounded = torch.round(residual)
        else:
            position = residual / STAND_IN
            lower = torch.floor(position).detach()
            above = (position - lower).clamp(1e-4, 1 - 1e-4)
            uniform = torch.rand(
                residual.shape, generator=self._generator, device=residual.device
            ).clamp(1e-6, 1 - 1e-6)
            logit = (torch.atanh(above) - torch.atanh(1 - above)) / self._temperature
            # the difference of two Gumbel variables is logistic
            gumbel = NOISE * torch.logit(uniform)
            share = torch.sigmoid((logit + gumbel) / self._temperature)
            rounded = STAND_IN * (lower + share)
        rounded = rounded.masked_fill(self._shape.skipped(prior.log_scale), 0.0)
        return rounded / spacing(site.latent), kind, rounded

    def likelihood(self, latent: str, part: Part) -> Tensor:
        return self._shape.likelihood(part.priced, part.log_scale, spacing(latent))


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
    rotation: Rotation = UNTURNED,
) -> Tensor:
    """Latents (1, M, rows, columns) of a tile ``box`` of the picture (H, W, 3) uint8, with less of

        bits + lmbda 255**2 mse pixels,  lmbda that of ``quality`` + AHEAD,

    than ``y`` has, or equal to it. The same on every call; ``done`` is called after each block.
    """
    y = y.clone()
    parts = blocks(box)
    for block in parts:
        outer = grow(block, HALO, box)
        where = (..., *inside(outer, box))
        # what lies beyond the picture costs nothing
        x = rotation.turn(visible_region(pixels, outer).to(y.device))
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
        self._q = torch.tensor([quality], device=x.device)
        self._weight = model.config.error_weight(quality + AHEAD)

    def _total(self, y_hat: Tensor, estimator: Estimator) -> Tensor:
        return self._model.cost(y_hat, estimator, self._x, self._q, self._weight)

    @torch.no_grad()
    def cost(self, y: Tensor) -> float:
        """Of ``y`` as it would be coded."""
        return float(self._total(*self._model.entropy_model.estimate(y, self._q)))

    def descend(self, start: Tensor, steps: int) -> Tensor:
        """``start`` after ``steps`` of descent under falling temperature and rate."""
        entropy_model = self._model.entropy_model
        generator = torch.Generator(start.device).manual_seed(0)
        with torch.no_grad():
            z = entropy_model.h_a(start, self._q).to(start.dtype)
        shape = entropy_model.shape()
        hot, cold = TEMPERATURES
        in_bfloat16 = multiplies_bfloat16(start.device)
        with torch.enable_grad():
            y = start.clone().requires_grad_()
            peak = LEARNING_RATE / math.sqrt(max(1, steps))
            optimiser = torch.optim.SGD([y], lr=peak, momentum=MOMENTUM)
            for step in range(steps):
                temperature = hot * (cold / hot) ** (step / steps)
                for group in optimiser.param_groups:
                    group["lr"] = peak * min(1.0, 2.0 * (1.0 - step / steps))
                estimator = AnnealedEstimator({"y": y, "z": z}, shape, temperature, generator)
                with torch.autocast(y.device.type, dtype=torch.bfloat16, enabled=in_bfloat16):
                    y_hat = entropy_model.walk((z.shape[-2], z.shape[-1]), self._q, estimator)
                    total = self._total(y_hat, estimator)
                (y.grad,) = torch.autograd.grad(total, [y])
                torch.nn.utils.clip_grad_value_([y], GRADIENT_MAX)
                optimiser.step()
        return y.detach()
