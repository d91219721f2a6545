"""Four-direction selective scan in fixed point: the same numbers on every device."""

from __future__ import annotations

import importlib

import torch
from torch import Tensor

from mambaic_kernels.dispatch import by_definition, pick
from mambaic_kernels.fixed_scan.reference import Steps

__all__ = ["Steps", "fixed_scan", "projected_scan", "suits"]


def fixed_scan(
    u: Tensor,
    dt: Tensor,
    rates: Tensor,
    B: Tensor,
    C: Tensor,
    size: tuple[int, int],
    *,
    reset: bool,
    span: int = 0,
    skip: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Scan of a map of ``size`` (height, width), P = height * width positions.

    Args:
        u: (batch, P, D) float32, as all tensors.
        dt: (batch, P, 4, D), not negative.
        rates: (4, N, D), the negative of A.
        B, C: (batch, P, 4, N).
        reset: the state starts anew at every row (directions 0, 1) or column (2, 3).
        span: side of squares, from the top left corner, that are scanned each alone; 0: none.
        skip: (D,), what inputs are multiplied by and added, both rounded to the grid.
        backend: "reference", "cpu", "triton", or "auto" by device.

    Returns y (batch, P, D), the sum of the directions in multiples of ``reference.STATE``; with
    ``skip`` on the grid. Raises KernelUnavailable if the backend cannot run
    here.
    """
    if backend == "auto" and by_definition(__name__):
        backend = "reference"
    module = importlib.import_module(f"{__name__}.{pick(backend, u.device)}")
    y: Tensor = module.fixed_scan(u, dt, rates, B, C, size, reset=reset, span=span, skip=skip)
    return y


def suits(u: Tensor) -> bool:
    """Whether ``projected_scan`` is there for ``u``."""
    plain = u.dtype == torch.float32 and not u.requires_grad
    return plain and u.device.type == "cpu" and not by_definition(__name__)


def projected_scan(
    u: Tensor,
    operands: Tensor,
    steps: Steps,
    rates: Tensor,
    *,
    reset: bool,
    span: int,
    skip: Tensor,
) -> Tensor:
    """``fixed_scan`` for CPUs that makes time steps where it uses them, as
    ``fixed_product.directed`` does: no map of them is written, four times as large as ``u``.

    Args:
        u: (batch, H, W, D), as ``suits`` says.
        operands: (batch, H, W, 4, R + 2 N): factors of the time steps, B and C.
        span: as in ``fixed_scan``; 0 unless ``reset``.

    Returns y (batch, H, W, D) on the grid.
    """
    cpu = importlib.import_module(f"{__name__}.cpu")
    y: Tensor = cpu.projected_scan(u, operands, steps, rates, reset=reset, span=span, skip=skip)
    return y
