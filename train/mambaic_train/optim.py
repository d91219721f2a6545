"""Optimiser, learning-rate schedule and weight average."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mambaic.models.model import MambaIC
from mambaic_train.config import TrainConfig


class Optimiser(torch.optim.AdamW):
    """Fused AdamW; a step with ``found_inf`` (), 1.0, changes nothing, and nobody reads it for that
    (as ``torch.amp.GradScaler`` has it)."""

    found_inf: Tensor | None = None


def make_optimiser(model: MambaIC, config: TrainConfig) -> Optimiser:
    """AdamW without decay; the short second-moment memory follows the sparse wavelet gradients.

    The transform networks learn slower than the entropy model (``network_lr``): at the entropy
    model's rate they diverge in the first hundred steps (docs/experiments/notebook.md).
    """
    branches = (model.transform.analysis, model.transform.synthesis)
    slow = [p for branch in branches for p in branch.parameters()]
    known = {id(p) for p in slow}
    fast = [p for p in model.parameters() if id(p) not in known]
    groups = [{"params": fast, "scale": 1.0}, {"params": slow, "scale": config.network_lr}]
    return Optimiser(
        groups, lr=config.lr, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.0, fused=True
    )


def learning_rate(config: TrainConfig, progress: float, step: int) -> float:
    """At ``progress`` in [0, 1] of the schedule: a warm-up counted in steps, a plateau, and a
    cosine over the ``cooldown`` at the end ([Haegele2024] Scaling laws and compute-optimal training
    beyond fixed training durations, arXiv:2405.18392)."""
    floor = config.lr_end
    fallen = min(1.0, max(0.0, progress - config.plateau) / config.cooldown)
    cosine = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * fallen))
    return config.lr * cosine * min(1.0, (step + 1) / config.warmup_steps)


class WeightAverage:
    """Exponential moving average of the parameters; short at first, to forget the start."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._parameters = dict(model.named_parameters())
        self.values = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int, counts: Tensor | float = 1.0) -> None:
        """Move towards the parameters as they are; not at all where ``counts`` () is 0."""
        weight = counts * (1 - min(self.decay, (step + 1) / (step + 10)))
        average = [self.values[name] for name in self._parameters]
        change = torch._foreach_sub(list(self._parameters.values()), average)
        torch._foreach_mul_(change, weight)
        torch._foreach_add_(average, change)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's parameters with the average; calling it twice undoes it."""
        for name, parameter in self._parameters.items():
            kept: Tensor = parameter.detach().clone()
            parameter.copy_(self.values[name])
            self.values[name] = kept
