"""Numerics of the walk: the same operations in the same precision on every device.

Files are coded in float64: what two devices' arithmetic makes of it differs by so little that the
margin of the boundary record (``mambaic.coding.coders``) covers it a hundred thousand times.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class DoubleCopy:
    """The float64 copy of a module, made anew when the module's weights have changed.

    Not a submodule, so that it is in no state_dict; safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: list[tuple[int, int]] = []
        self._copy: nn.Module | None = None

    def of(self, module: M) -> M:
        state = [(t.data_ptr(), t._version) for t in (*module.parameters(), *module.buffers())]
        with self._lock:
            if self._copy is None or self._state != state:
                self._copy, self._state = copy.deepcopy(module).double(), state
            assert isinstance(self._copy, type(module))
            return self._copy

    def __deepcopy__(self, memo: dict[int, object]) -> DoubleCopy:
        return DoubleCopy()


@contextmanager
def coding_mode(device: torch.device) -> Iterator[None]:
    """No autocast, no TF32, no cuDNN autotuning while latents are coded."""
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        matmul = torch.backends.cuda.matmul.allow_tf32
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            torch.backends.cuda.matmul.allow_tf32 = False
            try:
                yield
            finally:
                torch.backends.cuda.matmul.allow_tf32 = matmul
