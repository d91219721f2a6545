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
    return importlib.import_module(f"mambaic_kernels.scan.{backend}")


def watched(tensor: Tensor) -> bool:
    """Whether gradients, a compiler or fake tensors must see an operation on ``tensor``. If not,
    the backend is called without its operator, whose first call imports torch._dynamo: most of a
    second of every command."""
    return torch.is_grad_enabled() or torch.compiler.is_compiling() or type(tensor) is not Tensor


def _scan(
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


_scan_operator = torch.library.custom_op("mambaic::scan", _scan, mutates_args=())


def scan(u: Tensor, *others: Any) -> Tensor:
    """y (B, P, D); arguments as in ``_scan``."""
    y: Tensor = (_scan_operator if watched(u) else _scan)(u, *others)
    return y


@_scan_operator.register_fake
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


_scan_operator.register_autograd(_gradient, setup_context=_setup)


# On CPUs a pass over fresh memory costs about as much as the scan, so the time steps are made in
# one pass each way: delta (B, P, K, D), bias (K, D).


def _positive_steps(delta: Tensor, bias: Tensor) -> Tensor:
    dt: Tensor = _module("cpu").positive_steps(delta, bias)
    return dt


_steps_operator = torch.library.custom_op(
    "mambaic::positive_steps", _positive_steps, mutates_args=()
)


def positive_steps(delta: Tensor, bias: Tensor) -> Tensor:
    """dt = softplus(delta + bias)."""
    dt: Tensor = (_steps_operator if watched(delta) else _positive_steps)(delta, bias)
    return dt


@_steps_operator.register_fake
def _(delta: Tensor, bias: Tensor) -> Tensor:
    return delta.new_empty(delta.shape)


@torch.library.custom_op("mambaic::positive_steps_backward", mutates_args=())
def positive_steps_backward(grad: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    grads: tuple[Tensor, Tensor] = _module("cpu").positive_steps_backward(grad, dt)
    return grads


@positive_steps_backward.register_fake
def _(grad: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    return dt.new_empty(dt.shape), dt.new_empty(dt.shape[2:])


def _setup_steps(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(output)


def _gradient_steps(ctx: Any, grad: Tensor) -> Any:
    return torch.ops.mambaic.positive_steps_backward(grad, *ctx.saved_tensors)


_steps_operator.register_autograd(_gradient_steps, setup_context=_setup_steps)
