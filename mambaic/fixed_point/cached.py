"""The fixed-point twin of a network, made anew when its weights have changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

_making = threading.Lock()


def _after_fork() -> None:
    """The thread of the parent that may have held the lock is not in the child."""
    global _making
    _making = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


class CachedTwin(Generic[M]):
    """Not a submodule, so that it is in no state_dict; safe to use from several threads."""

    def __init__(self, make: Callable[[M], M]) -> None:
        self._make = make
        self._state: list[tuple[int, int]] | None = None
        self._twin: M | None = None

    def of(self, network: M) -> M:
        state = _state_of(network)
        with _making:
            if self._twin is None or state is None or self._state != state:
                self._twin, self._state = self._make(network), state
            return self._twin

    def __deepcopy__(self, memo: dict[int, object]) -> CachedTwin[M]:
        return CachedTwin(self._make)


def _state_of(network: nn.Module) -> list[tuple[int, int]] | None:
    """Differs from any before if a weight has changed; None if that cannot be told, as of a network
    that was made in inference mode."""
    tensors: list[Tensor] = [*network.parameters(), *network.buffers()]
    if any(torch.is_inference(t) for t in tensors):
        return None
    return [(t.data_ptr(), t._version) for t in tensors]
