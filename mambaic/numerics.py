"""The codec's own numerics: same bytes and pixels whatever the caller's process has set.

A process shares torch's settings among all who use it. ``own_numerics`` puts those aside that bear
on results, and puts them back. Two kinds:

- Of the thread: autocast, inference and gradient mode, the default device, the current CUDA device,
  flushed denormals. Nobody else sees that they change. Threads that the codec starts itself begin
  with torch's own, and without gradients (``worker_threads``).
- Of the process: the precision of float32 products, cuDNN's choice of algorithms, and in a forked
  child the number of threads. While any thread codes, others see the codec's; the last one to leave
  puts back what the first one found. All of them cost others nothing but time.

The default dtype is the process's, too, and other threads would notice: so it is left alone, and
the codec names the dtype of every tensor that it makes. As it is with deterministic algorithms,
which change nothing here, and the number of threads, on which results do not depend.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch

from mambaic_kernels.threads import forked

CPU = torch.device("cpu")


@contextmanager
def own_numerics(device: torch.device = CPU) -> Iterator[None]:
    """Code on ``device`` as in a process of the codec's own, without gradients. Can be nested."""
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(torch.inference_mode(False))  # first: it sets the mode of gradients
        enter(torch.no_grad())
        for kind in {"cpu", device.type}:
            enter(torch.autocast(kind, enabled=False))
        if torch.get_default_device() != CPU:
            enter(torch.device("cpu"))
        enter(_kept_denormals())
        enter(_of_cpus.held())
        if device.type == "cuda":
            enter(torch.cuda.device(device))
            enter(_of_cuda.held())
        yield


def worker_threads(count: int) -> ThreadPoolExecutor:
    """Threads that code for one that is in ``own_numerics``."""
    return ThreadPoolExecutor(count, initializer=torch.set_grad_enabled, initargs=(False,))


@contextmanager
def _kept_denormals() -> Iterator[None]:
    """Denormals are kept in this thread: torch tells no more of it than arithmetic does."""
    smallest = float.fromhex("0x1p-1022")
    if smallest * 0.5 > 0.0:
        yield
        return
    torch.set_flush_denormal(False)
    try:
        yield
    finally:
        torch.set_flush_denormal(True)


class _ProcessWide:
    """Settings of the process while threads code: ``changes`` makes them, and returns what undoes
    each change that was needed."""

    def __init__(self, changes: Callable[[], list[Callable[[], None]]]) -> None:
        self._changes = changes
        self._undo: list[Callable[[], None]] = []
        self._inside = 0
        self._lock = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                self._undo = self._changes()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._put_back()

    def _put_back(self) -> None:
        for undo in reversed(self._undo):
            undo()
        self._undo = []

    def forget_others(self) -> None:
        """In a forked child, where the threads that coded, and may have held the lock, are gone."""
        self._put_back()
        self._inside = 0
        self._lock = threading.Lock()


def _change(owner: Any, name: str, value: object) -> list[Callable[[], None]]:
    """Set an attribute, if need be; what undoes it."""
    before = getattr(owner, name)
    if before == value:
        return []
    setattr(owner, name, value)
    return [partial(setattr, owner, name, before)]


def _full_precision(owner: Any, parent: Any) -> list[Callable[[], None]]:
    """Products of float32 in float32; what undoes it. ``parent`` has what ``owner`` inherits."""
    before = owner.fp32_precision
    if before in ("none", "ieee"):
        return []
    inherited = parent.fp32_precision == before
    owner.fp32_precision = "ieee"
    return [partial(setattr, owner, "fp32_precision", "none" if inherited else before)]


def _settings_of_cpus() -> list[Callable[[], None]]:
    undo: list[Callable[[], None]] = []
    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:  # the caller set what follows, of which torch keeps another account
        precision = "highest"
    if precision != "highest":
        torch.set_float32_matmul_precision("highest")
        undo.append(partial(torch.set_float32_matmul_precision, precision))
    mkldnn: Any = torch.backends.mkldnn
    if hasattr(mkldnn, "fp32_precision"):  # since torch 2.9
        undo += _full_precision(mkldnn.matmul, mkldnn) + _full_precision(mkldnn.conv, mkldnn)
    if forked() and (threads := torch.get_num_threads()) > 1:
        # OpenMP's threads of the parent are gone, and torch would wait for them for ever
        torch.set_num_threads(1)
        undo.append(partial(torch.set_num_threads, threads))
    return undo


def _settings_of_cuda() -> list[Callable[[], None]]:
    cuda: Any = torch.backends.cuda
    cudnn: Any = torch.backends.cudnn
    undo: list[Callable[[], None]] = []
    try:
        undo += _change(cuda.matmul, "allow_tf32", False)
        undo += _change(cudnn, "allow_tf32", False)
    except RuntimeError:
        pass  # as above
    if hasattr(cudnn, "fp32_precision"):
        undo += _full_precision(cuda.matmul, cudnn) + _full_precision(cudnn.conv, cudnn)
    for name, value in (("enabled", True), ("benchmark", False), ("deterministic", True)):
        undo += _change(cudnn, name, value)
    return undo


def _settings_of_walks() -> list[Callable[[], None]]:
    # some of cuDNN's algorithms transform their inputs, so that sums of integers are not exact
    return _change(torch.backends.cudnn, "enabled", False)


@contextmanager
def exact_sums(device: torch.device) -> Iterator[None]:
    """Convolutions of float32 on ``device`` add products alone."""
    if device.type != "cuda":
        yield
        return
    with _of_walks.held():
        yield


_of_walks = _ProcessWide(_settings_of_walks)
_of_cpus = _ProcessWide(_settings_of_cpus)
_of_cuda = _ProcessWide(_settings_of_cuda)


def _after_fork() -> None:
    _of_walks.forget_others()
    _of_cpus.forget_others()
    _of_cuda.forget_others()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
