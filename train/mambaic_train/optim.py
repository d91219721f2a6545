"""Optimiser, learning-rate schedule and weight average."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mambaic.models.model import MambaIC
from mambaic_train.config import TrainConfig


def make_optimiser(model: MambaIC, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW without decay; the short second-moment memory follows the sparse wavelet gradients.

    The transform networks learn slower than the entropy model (``network_lr``): at the entropy
    model's rate they diverge in the first hundred steps (docs/experiments/notebook.md).
    """
    branches = (model.transform.analysis, model.transform.synthesis)
    slow = [p for branch in branches for p in branch.parameters()]
    known = {id(p) for p in slow}
    fast = [p for p in model.parameters() if id(p) not in known]
    groups = [{"params": fast, "scale": 1.0}, {"params": slow, "scale": config.network_lr}]
    return torch.optim.AdamW(
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
        self.values = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        weight = 1 - min(self.decay, (step + 1) / (step + 10))
        current = dict(model.named_parameters())
        average = [self.values[name] for name in self.values]
        torch._foreach_lerp_(average, [current[name].detach() for name in self.values], weight)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange the model's parameters with the average; calling it twice undoes it."""
        for name, parameter in model.named_parameters():
            kept: Tensor = parameter.detach().clone()
            parameter.copy_(self.values[name])
            self.values[name] = kept
