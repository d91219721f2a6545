"""Timing and tables of the benchmarks: medians of ``torch.utils.benchmark``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

TOLERANCE = 2e-5  # of a check before the timing


def seconds(function: Callable[[], Any], at_least: float = 1.0) -> float:
    timer = Timer("run()", globals={"run": function}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=at_least).median)


def with_gradients(function: Callable[..., Any], operands: list[Tensor], **options: Any) -> Any:
    leaves = [t.detach().requires_grad_() for t in operands]

    def run() -> None:
        torch.autograd.grad(function(*leaves, **options).sum(), leaves)

    return run


def table(title: str, updates: int, rows: list[tuple[str, float]], unit: str = "updates") -> None:
    print(f"\n{title}")
    print(f"{'':30}{'ms':>10}{f'G {unit}/s':>13}{'times the first':>17}")
    for name, time in rows:
        print(f"{name:30}{time * 1e3:10.2f}{updates / time / 1e9:13.2f}{rows[0][1] / time:17.1f}")


def bound(function: Callable[..., Any], operands: list[Tensor], **options: Any) -> Any:
    def run() -> None:
        with torch.no_grad():
            function(*operands, **options)
        if operands[0].is_cuda:
            torch.cuda.synchronize()

    return run


def copy(tensors: list[Tensor]) -> None:
    for tensor in tensors:
        tensor.clone()
    if tensors[0].is_cuda:
        torch.cuda.synchronize()
