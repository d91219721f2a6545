"""torch.library custom operators around the backends: fake tensors, autograd, torch.compile.

One operator pair serves both public functions. It works on flattened maps:
u (B, P, D), dt (B, P, K, D), A (K, N, D), B and C (B, P, K, N) -> y (B, P, D), P = height * width.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


def _module(backend: str) -> ModuleType:
    """cpu or triton: imported when first used, as both are slow to import."""
    return importlib.import_module(f"mambaic_kernels.{backend}")


@torch.library.custom_op("mambaic::scan", mutates_args=())
def scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    height: int,
    width: int,
    reset: bool,
    backend: str,
) -> Tensor:
    y: Tensor = _module(backend).scan_forward(u, dt, A, B, C, (height, width), reset)
    return y


@scan.register_fake
def _(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    height: int,
    width: int,
    reset: bool,
    backend: str,
) -> Tensor:
    return u.new_empty(u.shape)


@torch.library.custom_op("mambaic::scan_backward", mutates_args=())
def scan_backward(
    grad: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    height: int,
    width: int,
    reset: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    grads: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = _module(backend).scan_backward(
        grad, u, dt, A, B, C, (height, width), reset
    )
    return grads


@scan_backward.register_fake
def _(
    grad: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    height: int,
    width: int,
    reset: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    u_, dt_, A_, B_, C_ = (t.new_empty(t.shape) for t in (u, dt, A, B, C))
    return u_, dt_, A_, B_, C_


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.height, ctx.width, ctx.reset, ctx.backend = inputs
    ctx.save_for_backward(*tensors)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    grads = torch.ops.mambaic.scan_backward(
        grad, *ctx.saved_tensors, ctx.height, ctx.width, ctx.reset, ctx.backend
    )
    return (*grads, None, None, None, None)


scan.register_autograd(_gradient, setup_context=_setup)


# the same with dt = softplus(delta + bias) made inside, bias (K, D): on CPUs, where every pass over
# fresh memory costs as much as the scan of it


@torch.library.custom_op("mambaic::softplus_scan", mutates_args=())
def softplus_scan(
    u: Tensor,
    delta: Tensor,
    bias: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    height: int,
    width: int,
    reset: bool,
) -> tuple[Tensor, Tensor]:
    """(y, dt); dt is for the backward pass and has no gradient."""
    cpu = _module("cpu")
    dt: Tensor = cpu.positive_steps(delta, bias)
    return cpu.scan_forward(u, dt, A, B, C, (height, width), reset), dt


@softplus_scan.register_fake
def _(u: Tensor, delta: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), delta.new_empty(delta.shape)


@torch.library.custom_op("mambaic::softplus_scan_backward", mutates_args=())
def softplus_scan_backward(
    grad: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    height: int,
    width: int,
    reset: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    cpu = _module("cpu")
    gu, gdt, gA, gB, gC = cpu.scan_backward(grad, u, dt, A, B, C, (height, width), reset)
    gdelta, gbias = cpu.positive_steps_backward(gdt, dt)
    return gu, gdelta, gbias, gA, gB, gC


@softplus_scan_backward.register_fake
def _(
    grad: Tensor, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *others: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    u_, dt_, bias_, A_, B_, C_ = (t.new_empty(t.shape) for t in (u, dt, dt[0, 0], A, B, C))
    return u_, dt_, bias_, A_, B_, C_


def _setup_softplus(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    u, _, _, A, B, C, ctx.height, ctx.width, ctx.reset = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # no map of zeros for dt
    ctx.save_for_backward(u, output[1], A, B, C)


def _gradient_softplus(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Any, ...]:
    grads = torch.ops.mambaic.softplus_scan_backward(
        grad, *ctx.saved_tensors, ctx.height, ctx.width, ctx.reset
    )
    return (*grads, None, None, None)


softplus_scan.register_autograd(_gradient_softplus, setup_context=_setup_softplus)
