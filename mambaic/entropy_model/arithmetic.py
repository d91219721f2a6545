"""Arithmetic of the walk: the same operations in the same precision on every device.

Files are coded in float64: what two devices' arithmetic makes of it differs by so little that the
margin of the boundary record (``mambaic.coding.coders``) covers it a hundred thousand times.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambaic.nn.blocks import FeatureConv2d, GridConv2d, log_features

M = TypeVar("M", bound=nn.Module)

STRIP_BYTES = 8 << 20


class StripConv2d(nn.Module):
    """A 3x3 convolution of float64 on CPUs, some rows at a time, of ``features`` of its input.

    torch has no such convolution but unfolding the map into one matrix, nine times its size: over a
    gigabyte for a large tile, and slower than what fits a cache (docs/benchmarks.md).
    """

    def __init__(self, conv: nn.Conv2d, features: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        # only such that are 0 where their input is, as what lies beyond a map is
        self._features = features or (lambda strip: strip)

    def forward(self, input: Tensor, row: int = 0, column: int = 0, stride: int = 1) -> Tensor:
        """At every ``stride``-th row from ``row`` and column from ``column``, as ``GridConv2d``."""
        out_channels, in_channels = self.weight.shape[:2]
        height = -(-(input.shape[-2] - row) // stride)
        width = -(-(input.shape[-1] - column) // stride)
        rows = max(1, height if input.is_cuda else STRIP_BYTES // (72 * in_channels * width))
        out = input.new_empty(input.shape[0], out_channels, height, width)
        for top in range(0, height, rows):
            bottom = min(height, top + rows)
            above, below = row + stride * top - 1, row + stride * (bottom - 1) + 2
            strip = self._features(input[..., max(0, above) : below, :])
            beyond = max(0, -above), max(0, below - input.shape[-2])
            strip = F.pad(strip, (1 - column, 1, *beyond))
            out[..., top:bottom, :] = F.conv2d(strip, self.weight, self.bias, stride)
        return out


def _in_strips(conv: nn.Module) -> nn.Module | None:
    """The same convolution in strips; None for anything but a plain one of 3x3."""
    # a stride, a dilation or groups would need other strips
    if type(conv) not in (nn.Conv2d, FeatureConv2d, GridConv2d):
        return None
    assert isinstance(conv, nn.Conv2d)
    plain = conv.stride == conv.dilation == (1, 1) and conv.groups == 1
    if not plain or conv.kernel_size != (3, 3) or conv.padding != (1, 1):
        return None
    return StripConv2d(conv, log_features if isinstance(conv, FeatureConv2d) else None)


def _double(module: M) -> M:
    module = copy.deepcopy(module).double()
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if (strips := _in_strips(child)) is not None:
                parent.add_module(name, strips)
    return module


_copying = threading.Lock()


def _after_fork() -> None:
    """The thread of the parent that may have held the lock is not in the child."""
    global _copying
    _copying = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


class DoubleCopy:
    """The float64 copy of a module, made anew when the module's weights have changed.

    Not a submodule, so that it is in no state_dict; safe to use from several threads.
    """

    def __init__(self) -> None:
        self._state: list[tuple[int, int]] | None = None
        self._copy: nn.Module | None = None

    def of(self, module: M) -> M:
        state = _state_of(module)
        with _copying:
            if self._copy is None or state is None or self._state != state:
                self._copy, self._state = _double(module), state
            assert isinstance(self._copy, type(module))
            return self._copy

    def __deepcopy__(self, memo: dict[int, object]) -> DoubleCopy:
        return DoubleCopy()


def _state_of(module: nn.Module) -> list[tuple[int, int]] | None:
    """Differs from any before if a weight has changed; None if that cannot be told, as of a module
    that was made in inference mode."""
    tensors: list[Tensor] = [*module.parameters(), *module.buffers()]
    if any(torch.is_inference(t) for t in tensors):
        return None
    return [(t.data_ptr(), t._version) for t in tensors]
