"""Several processes as one trainer: ``torchrun --nproc-per-node N -m mambaic_cli train ...``.

Every process draws the same global batch and computes its share; gradients are averaged by one
all-reduce over all of them, so that a step is that of a single process with the global batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mambaic.devices import pick_device
from mambaic.errors import ConfigError, DeviceError


class WorkerLost(DeviceError):
    """Another process of the run is gone; the state is saved and the run can be resumed."""


@dataclass(frozen=True)
class World:
    """This process among the others; alone by default."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Which of ``count`` images are this process's. Raises ConfigError if that is no number."""
        if count % self.size:
            raise ConfigError(
                f"a batch of {count} images does not divide among {self.size} processes: "
                "change --batch"
            )
        each = count // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their mean over all processes. Raises WorkerLost."""
        if self.size == 1:
            return
        # a branch that is closed in this step has no gradients, in any process
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        self._reduce(flat, dist.ReduceOp.SUM)
        flat /= self.size
        parts = flat.split([g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def mean(self, figures: Tensor) -> Tensor:
        """Means over all processes, on the device of the figures."""
        if self.size == 1:
            return figures
        total = figures.clone()
        self._reduce(total, dist.ReduceOp.SUM)
        return total / self.size

    def largest(self, value: float) -> float:
        """The largest of all processes' values: clocks and wishes to stop are agreed on so, by the
        hosts, which do not wait for their GPUs."""
        if self.size == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.float64)
        self._reduce(tensor, dist.ReduceOp.MAX)
        return float(tensor)

    def _reduce(self, tensor: Tensor, operation: dist.ReduceOp.RedOpType) -> None:
        try:
            dist.all_reduce(tensor, operation)
        except RuntimeError as exc:
            raise WorkerLost(f"process {self.rank}: a worker was lost: {exc}") from exc


@contextmanager
def joined(device: str) -> Iterator[tuple[World, str]]:
    """(world, device of this process): joins torchrun's processes, if it started this one.

    Raises DeviceError, and ConfigError if one GPU is asked for by all of them.
    """
    picked = pick_device(device)
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield World(), str(picked)
        return
    on_gpu = picked.type == "cuda"
    if on_gpu and ":" in device:
        raise ConfigError(f"--device {device}: of several processes each takes its own; give cuda")
    device = str(picked)
    if on_gpu:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()
