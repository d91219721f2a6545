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
from torch import Tensor, nn
from torch.nn import functional as F

from mambaic.nn.blocks import FeatureConv2d, GridConv2d, log_features

M = TypeVar("M", bound=nn.Module)

STRIP_BYTES = 8 << 20


class StripConv2d(nn.Conv2d):
    """3x3 convolution of float64 on CPUs, some rows at a time.

    torch has no such convolution but unfolding the map into one matrix, nine times its size: over a
    gigabyte for a large tile, and slower than what fits a cache (docs/benchmarks.md).
    """

    def forward(self, input: Tensor) -> Tensor:
        return self._convolve(input)

    def _convolve(self, input: Tensor, row: int = 0, column: int = 0, stride: int = 1) -> Tensor:
        """At every ``stride``-th row from ``row`` and column from ``column``."""
        height = -(-(input.shape[-2] - row) // stride)
        width = -(-(input.shape[-1] - column) // stride)
        rows = max(1, height if input.is_cuda else STRIP_BYTES // (72 * self.in_channels * width))
        out = input.new_empty(input.shape[0], self.out_channels, height, width)
        for top in range(0, height, rows):
            bottom = min(height, top + rows)
            above, below = row + stride * top - 1, row + stride * (bottom - 1) + 2
            strip = self.features(input[..., max(0, above) : below, :])
            beyond = max(0, -above), max(0, below - input.shape[-2])
            strip = F.pad(strip, (1 - column, 1, *beyond))
            out[..., top:bottom, :] = F.conv2d(strip, self.weight, self.bias, stride)
        return out

    def features(self, strip: Tensor) -> Tensor:
        return strip


class StripFeatureConv2d(StripConv2d):
    """The same of log features, which are 0 where latents are."""

    def features(self, strip: Tensor) -> Tensor:
        return log_features(strip)


class StripGridConv2d(StripConv2d):
    """The same on a grid."""

    def forward(self, input: Tensor, row: int, column: int, stride: int) -> Tensor:  # type: ignore[override]
        return self._convolve(input, row, column, stride)


STRIPS = {
    nn.Conv2d: StripConv2d,
    FeatureConv2d: StripFeatureConv2d,
    GridConv2d: StripGridConv2d,
}


def _double(module: M) -> M:
    module = copy.deepcopy(module).double()
    for conv in module.modules():
        # a stride, a dilation or groups would need other strips
        if isinstance(conv, nn.Conv2d) and type(conv) in STRIPS:
            plain = conv.stride == conv.dilation == (1, 1) and conv.groups == 1
            if plain and conv.kernel_size == (3, 3) and conv.padding == (1, 1):
                conv.__class__ = STRIPS[type(conv)]
    return module


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
                self._copy, self._state = _double(module), state
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
