"""``mambaic train --benchmark``: images per second, and where the time of a step goes.

Under torchrun all processes are timed at once, and images/s are those of all of them.

The bar to reach is the step's own convolutions and linear layers, run alone at the same shapes and
precision, forward and backward: no training step can be faster than they are.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from mambaic.config import PRESETS
from mambaic.models.model import MambaIC
from mambaic_train.config import TrainConfig
from mambaic_train.data import Photos
from mambaic_train.distributed import World
from mambaic_train.loop import Trainer

ROUNDS = 8  # of a step and its convolutions in turn, as a machine's speed changes meanwhile
Call = tuple[nn.Module, tuple[int, ...], tuple[int, ...]]  # layer, shape of x, other arguments


def benchmark(
    data: Photos, config: TrainConfig, device: str, world: World | None = None
) -> dict[str, float]:
    """Print and return images/s of training steps, and the share of the convolutions in them."""
    torch.manual_seed(config.seed)
    config = replace(config, warm_entropy=0.0)  # the whole model, as in most of a run
    trainer = Trainer(MambaIC(PRESETS[config.preset]), config, device, world)
    dense = _dense(_record(trainer, data), trainer, device)
    rounds = [(_seconds(lambda: trainer.run_step(data), device), dense()) for _ in range(ROUNDS)]
    step_s, dense_s = (statistics.median(times) for times in zip(*rounds, strict=True))
    share = statistics.median(convolutions / step for step, convolutions in rounds)
    images = config.batch_at(config.crop)
    report = _profile(trainer, data, device)
    figures = {"images_per_s": images / step_s, "dense_share": share}
    if not trainer.world.leads:
        return figures
    processes = f"{trainer.world.size} process" + "es" * (trainer.world.size > 1)
    threads = f"{torch.get_num_threads()} thread" + "s" * (torch.get_num_threads() > 1)
    print(f"{trainer.device}, {processes} of {threads}, {config.precision}")
    print(f"preset {config.preset}, {images} crops of {config.crop}x{config.crop} per step")
    print(f"training step           {step_s * 1e3:9.1f} ms  {images / step_s:9.1f} images/s")
    print(f"its convolutions alone  {dense_s * 1e3:9.1f} ms  {images / dense_s:9.1f} images/s")
    print(f"throughput of the step is {100 * share:.0f} % of its convolutions'\n")
    print(report)
    return figures


def _seconds(run: Callable[[], Any], device: str) -> float:
    started = time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _record(trainer: Trainer, data: Photos) -> list[Call]:
    """Every call of a convolution or linear layer in one step; also warms everything up."""
    trainer.run_step(data)
    calls: list[Call] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, *rest = inputs
        calls.append((module, tuple(x.shape), tuple(rest)))

    dense = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    modules = [m for m in trainer.model.modules() if isinstance(m, dense)]
    handles = [module.register_forward_hook(keep) for module in modules]
    trainer.run_step(data)
    for handle in handles:
        handle.remove()
    return calls


def _dense(calls: list[Call], trainer: Trainer, device: str) -> Callable[[], float]:
    """Measures the seconds of all dense layers, forward and backward, on random inputs."""
    dtype = torch.bfloat16 if trainer.config.precision == "bf16" else torch.float32
    passes = []
    for (module, shape, rest), count in Counter(calls).items():
        x = torch.randn(shape, device=device, dtype=dtype, requires_grad=True)
        if len(shape) == 4 and not isinstance(module, nn.Linear):
            x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()

        def run(module: nn.Module = module, x: Tensor = x, rest: Any = rest) -> None:
            with trainer.autocast():
                y = module(x, *rest)
            torch.autograd.grad(y, [x, *module.parameters()], torch.ones_like(y))

        run()
        passes.append((run, count))
    return lambda: sum(count * _seconds(run, device) for run, count in passes)


def _profile(trainer: Trainer, data: Photos, device: str) -> str:
    """Table of the operators that take the most time."""
    activities = [ProfilerActivity.CPU]
    key = "self_cpu_time_total"
    if device != "cpu":
        activities.append(ProfilerActivity.CUDA)
        key = "self_cuda_time_total"
    with profile(activities=activities) as profiler:
        trainer.run_step(data)
    table = profiler.key_averages().table(sort_by=key, row_limit=12, max_name_column_width=40)
    return str(table)
