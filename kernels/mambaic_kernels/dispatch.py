"""Which backend runs: asked for by name, or the natural one of the tensor's device.

Nothing heavy is imported before a backend is first used.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from functools import lru_cache
from typing import Any

import torch

from mambaic_kernels.errors import KernelUnavailable

BACKENDS = ("reference", "cpu", "triton", "mamba_ssm")
# operations, with commas between them, that run by their definition: what `scripts/gpu_check.py`
# sets for kernels that it finds to fail
BY_DEFINITION = "MAMBAIC_BY_DEFINITION"
_by_definition = frozenset(os.environ.get(BY_DEFINITION, "").split(","))


def _missing(backend: str) -> str:
    """Why ``backend`` cannot be used at all here, "" if it can."""
    if backend == "cpu" and importlib.util.find_spec("numba") is None:
        return "numba is not installed; pip install numba"
    if backend == "triton":
        if importlib.util.find_spec("triton") is None:
            return "triton is not installed; pip install triton (Linux)"
        if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
            return "triton needs a CUDA device (or TRITON_INTERPRET=1 to test on CPU)"
    if backend == "mamba_ssm":
        if importlib.util.find_spec("mamba_ssm") is None:
            return "mamba-ssm is not installed; pip install 'mambaic[mamba]'"
        if not torch.cuda.is_available():
            return "mamba_ssm needs a CUDA device"
    return ""


def available() -> tuple[str, ...]:
    """Backends that can run on this machine."""
    return tuple(name for name in BACKENDS if not _missing(name))


def pick(backend: str, device: torch.device) -> str:
    """Backend that will run: ``backend`` itself, or for "auto" cpu / triton by device.

    Raises KernelUnavailable if it cannot run here, ValueError if there is no such backend.
    """
    if backend == "auto":
        backend = "triton" if device.type == "cuda" else "cpu"
    if backend not in BACKENDS:
        raise ValueError(f"backend {backend!r} is not one of auto, {', '.join(BACKENDS)}")
    if reason := _missing(backend):
        raise KernelUnavailable(f"{backend}: {reason}")
    interpreted = backend == "triton" and os.environ.get("TRITON_INTERPRET") == "1"
    needs = {"cpu": "cpu", "triton": "cpu" if interpreted else "cuda", "mamba_ssm": "cuda"}
    if needs.get(backend, device.type) != device.type:
        raise KernelUnavailable(f"{backend}: cannot run on tensors of device {device}")
    return backend


def by_definition(operation: str) -> bool:
    """Whether an operation, a package, is to run by its definition."""
    return operation.rpartition(".")[2] in _by_definition


def module_for(operation: str, x: torch.Tensor) -> Any:
    """The module of ``operation``, a package, that runs on ``x`` by the natural backend: the
    definition where gradients are wanted, numbers are not float32, or the environment says so."""
    if x.dtype != torch.float32 or x.requires_grad or by_definition(operation):
        return importlib.import_module(f"{operation}.reference")
    return _natural(operation, x.device)


@lru_cache(maxsize=64)  # a picture asks thousands of times
def _natural(operation: str, device: torch.device) -> Any:
    return importlib.import_module(f"{operation}.{pick('auto', device)}")
