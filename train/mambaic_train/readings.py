"""Figures that training steps leave on their device, read without waiting for the step at hand."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

# Steps that a GPU may be behind the host: while the oldest is waited for, the others keep it busy.
LAG = 3


@dataclass
class StepReport:
    """What one step did; rates and errors are means over its images."""

    step: int
    loss: float
    bpp: float
    psnr_db: float
    lr: float
    images: int
    skipped: bool


class Taken(NamedTuple):
    """What the host knows of a step when it has given it to the device."""

    step: int
    lr: float
    images: int


class Readings:
    """Reports of steps in their order: on a CPU at once, on a GPU some steps later."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self.lag = LAG if self._on_gpu else 0
        self._coming: deque[tuple[Taken, Tensor, torch.cuda.Event | None]] = deque()

    def put(self, taken: Taken, figures: Tensor) -> None:
        """``figures`` of a step, (4,): loss, bpp, squared error, norm of the gradient. They are
        sent to the host as soon as the device has made them."""
        arrived = None
        if self._on_gpu:
            place = torch.empty_like(figures, device="cpu", pin_memory=True)
            figures = place.copy_(figures, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        self._coming.append((taken, figures, arrived))

    def take(self, *, all_of_them: bool = False) -> list[StepReport]:
        """Those of steps that are more than ``lag`` steps ago, or all."""
        found = []
        while len(self._coming) > (0 if all_of_them else self.lag):
            taken, figures, arrived = self._coming.popleft()
            if arrived is not None:
                arrived.synchronize()
            loss, bpp, mse, gradient = figures.tolist()
            psnr_db = -10 * math.log10(max(1e-10, mse))
            skipped = not math.isfinite(gradient)
            found.append(
                StepReport(taken.step, loss, bpp, psnr_db, taken.lr, taken.images, skipped)
            )
        return found
