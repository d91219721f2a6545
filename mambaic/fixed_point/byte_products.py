"""Products of integers by the 8-bit instructions of CPUs (VNNI, AMX): the same sums, sooner.

An input of at most 12 bits is two digits of a byte each, 16 * high + low, one of at most 8 bits a
single one; products of digits with weights of a byte are summed in 32 bits by oneDNN. CPUs without
such instructions, whose oneDNN bounds sums of pairs to 16 bits, are found by a probe; there, as on
other devices, sums are made in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambaic.nn.blocks import GridConv2d, RowConv2d
from mambaic_kernels.fixed_point.reference import DIGIT_ZERO
from mambaic_kernels.fixed_product import passes
from mambaic_kernels.grids import Grids, join

LARGEST_BYTE = 255
CACHED = 1 << 21  # sums that are made at once, four bytes each
LEAST = 1 << 22  # multiplications under which float32 takes less time
# of a tensor and, if they are not None, its factors: bytes as ``passes.digits`` makes them
Digits = Callable[[Tensor, Tensor | None], Tensor]


class ByteProduct:
    """The product with a layer's integer weights, of digits as ``to_digits`` makes them, those
    of a ``GridConv2d`` of side 1 at its grids: sums (digits B, ...) float32 over bytes, first those
    of high digits, then of low ones. ``zero`` (out,) is what the sums of digits that are 0 are.

    Bytes are multiplied as they are and borders made by padding: oneDNN's own zero points write
    beyond their memory in dilated convolutions of large maps (oneDNN 3, AMX).
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, digits: int = 2) -> None:
        self._layer, self._digits = layer, digits
        alone = isinstance(layer, GridConv2d) and layer.kernel_size == (1, 1)
        self._matrix = alone or isinstance(layer, nn.Linear | RowConv2d)
        self._same_size = self._matrix or (not isinstance(layer, GridConv2d) and _keeps_size(layer))
        weight = layer.weight.detach()
        rows = len(weight)
        self.zero = weight.flatten(1).sum(dim=1) * DIGIT_ZERO
        self._one = torch.ones(rows, dtype=torch.float32)
        self._none = torch.zeros(rows, dtype=torch.int32)
        integers = weight.to(torch.int8)
        if self._matrix:
            self._packed = torch.ops.onednn.qlinear_prepack(integers.flatten(1), None)
        else:
            self._packed = torch.ops.onednn.qconv_prepack(
                integers.contiguous(), self._one, 1.0, 0, *self._geometry(1), None
            )

    @staticmethod
    def suits(layer: nn.Linear | nn.Conv2d) -> bool:
        """Whether there is one of this layer on this CPU."""
        return bool((isinstance(layer, nn.Linear) or layer.groups == 1) and exact_bytes())

    @staticmethod
    def pays(layer: nn.Linear | nn.Conv2d, x: Tensor, channel: int, stride: int) -> bool:
        """Whether a product of x takes less time than in float32. Both give the same sums."""
        positions = x.numel() // (x.shape[channel] * stride**2)
        return positions * layer.weight.numel() >= LEAST

    def __call__(self, digits: Tensor, grids: Grids = ()) -> Tensor:
        if self._matrix:
            return self._multiplied(digits)
        layer = self._layer
        assert isinstance(layer, nn.Conv2d)
        if isinstance(layer, GridConv2d):
            reach = layer.kernel_size[0] // 2
            return join([self._padded(digits, of.around(reach), of.stride) for of in grids])
        return self._convolved_rows(digits, *(int(layer.padding[0]),) * 2)

    def fused(
        self,
        x: Tensor,
        digits_of: Digits,
        channel: int,
        grids: Grids = (),
        *,
        times: Tensor | None = None,
        plus: Tensor | None = None,
        **finish: Any,
    ) -> Tensor:
        """Digits of x and ``times``, their product, and ``passes.finish``; of a large x part by
        part, so that what lies between them stays in the cache."""
        finish |= {"channel": -1 if grids else channel, "digits": self._digits, "zero": self.zero}
        size = self._at_once(x, channel, grids, times)
        if size is None:
            sums = self(digits_of(x, times), grids)
            return passes.finish(sums, plus=plus, **finish)
        if not self._matrix:
            return self._by_rows(x, digits_of, size, plus, finish)
        rows, factors, others = (_rows(of) for of in (x, times, plus))
        assert rows is not None
        out = torch.empty(len(rows), len(self.zero), dtype=torch.float32)
        for first in range(0, len(rows), size):
            own = slice(first, first + size)
            digits = digits_of(rows[own], _part(factors, own))
            passes.finish(self._multiplied(digits), plus=_part(others, own), out=out[own], **finish)
        return out.view(*x.shape[:-1], -1)

    def _by_rows(
        self,
        x: Tensor,
        digits_of: Digits,
        size: int,
        plus: Tensor | None,
        finish: dict[str, Any],
    ) -> Tensor:
        """Of so many rows of a map (1, C, H, W) at a time."""
        assert isinstance(self._layer, nn.Conv2d)
        reach, height = int(self._layer.padding[0]), x.shape[2]
        out = passes.empty(x, 1, torch.float32, channels=len(self.zero))
        for first in range(0, height, size):
            last = min(first + size, height)
            above, below = min(reach, first), min(reach, height - last)
            own = slice(None), slice(None), slice(first, last)
            digits = digits_of(x[:, :, first - above : last + below], None)
            sums = self._convolved_rows(digits, reach - above, reach - below)
            passes.finish(sums, plus=_part(plus, own), out=out[own], **finish)
        return out

    def _at_once(self, x: Tensor, channel: int, grids: Grids, times: Tensor | None) -> int | None:
        """How many rows of a map or positions, if not all."""
        of_maps = channel == 1 and (times is not None or not self._same_size)
        if grids or len(x) > 1 or of_maps:
            return None
        columns = x.shape[-1] if channel == 1 else 1
        count = x.shape[2] if channel == 1 else x.numel() // x.shape[-1]
        size = max(1, CACHED // (self._digits * len(self.zero) * columns))
        return size if count > size else None

    def _convolved_rows(self, digits: Tensor, above: int, below: int) -> Tensor:
        """With so many rows of zeros above and below."""
        assert isinstance(self._layer, nn.Conv2d)
        columns = int(self._layer.padding[1])
        return self._padded(digits, (columns, columns, above, below), 1)

    def _padded(self, digits: Tensor, around: tuple[int, int, int, int], stride: int) -> Tensor:
        return self._convolved(F.pad(digits, around, value=float(DIGIT_ZERO)), stride)

    def _multiplied(self, digits: Tensor) -> Tensor:
        rows = digits.reshape(-1, digits.shape[-1])
        sums: Tensor = torch.ops.onednn.qlinear_pointwise(
            rows, 1.0, 0, self._packed, self._one, self._none, None,
            1.0, 0, torch.float32, "none", [], "none",
        )  # fmt: skip
        return sums.view(*digits.shape[:-1], -1)

    def _convolved(self, digits: Tensor, stride: int) -> Tensor:
        sums: Tensor = torch.ops.onednn.qconv2d_pointwise(
            digits, 1.0, 0, self._packed, self._one, self._none, None,
            *self._geometry(stride), 1.0, 0, torch.float32, "none", [], "none",
        )  # fmt: skip
        return sums

    def _geometry(self, stride: int) -> tuple[list[int], list[int], list[int], int]:
        """Stride, padding, dilation and groups."""
        layer = self._layer
        assert isinstance(layer, nn.Conv2d)
        if isinstance(layer, GridConv2d):
            return [stride] * 2, [0, 0], [1, 1], 1
        return list(layer.stride), [0, 0], list(layer.dilation), 1


def _keeps_size(layer: nn.Linear | nn.Conv2d) -> bool:
    """Whether there are as many positions as before."""
    if isinstance(layer, nn.Linear):
        return True
    (side, _), (dilation, _), (stride, _) = layer.kernel_size, layer.dilation, layer.stride
    return stride == 1 and 2 * int(layer.padding[0]) == dilation * (side - 1)


def _rows(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.reshape(-1, x.shape[-1])


def _part(x: Tensor | None, of: slice | tuple[slice, ...]) -> Tensor | None:
    return None if x is None else x[of]


@lru_cache(maxsize=1)
def exact_bytes() -> bool:
    """Whether this CPU and this torch multiply bytes and sum them in 32 bits."""
    if not all(
        hasattr(torch.ops.onednn, name) for name in ("qconv2d_pointwise", "qlinear_pointwise")
    ):
        return False
    largest = torch.full((64, 64, 3, 3), 127.0)
    conv, linear = nn.Conv2d(64, 64, 3, bias=False), nn.Linear(64, 64, bias=False)
    conv.weight = nn.Parameter(largest, requires_grad=False)
    linear.weight = nn.Parameter(largest[:, :, 0, 0], requires_grad=False)
    digits = torch.full((2, 64, 16, 16), 255, dtype=torch.uint8)
    digits = digits.contiguous(memory_format=torch.channels_last)
    one = 255.0 * 127 * 64
    try:
        sums = ByteProduct(conv)(digits)
        products = ByteProduct(linear)(digits.movedim(1, -1).reshape(2, 256, 64))
    except RuntimeError:  # there is no such product on this kind of CPU
        return False
    return bool((sums == 9 * one).all() and (products == one).all())
