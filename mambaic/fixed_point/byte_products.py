"""Products of integers by the 8-bit instructions of CPUs (VNNI, AMX): the same sums, sooner.

An input of at most 12 bits is two digits of a byte each, 16 * high + low; products of both with
weights of a byte are summed in 32 bits by oneDNN. CPUs without such instructions, whose oneDNN
bounds sums of pairs to 16 bits, are found by a probe; there, as on other devices, sums are made in
float32.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambaic.nn.blocks import GridConv2d, RowConv2d
from mambaic_kernels.fixed_point.reference import DIGIT_ZERO
from mambaic_kernels.grids import Grids, join

LARGEST_BYTE = 255
LEAST = 1 << 22  # multiplications under which float32 takes less time


class ByteProduct:
    """The product with a layer's integer weights, of digits as ``to_digits`` makes them, those
    of a ``GridConv2d`` of side 1 at its grids: sums (2 B, ...) float32 over bytes, first those of
    high digits, then of low ones. ``zero`` (out,) is what the sums of digits that are 0 are.

    Bytes are multiplied as they are and borders made by padding: oneDNN's own zero points write
    beyond their memory in dilated convolutions of large maps (oneDNN 3, AMX).
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        self._layer = layer
        alone = isinstance(layer, GridConv2d) and layer.kernel_size == (1, 1)
        self._matrix = alone or isinstance(layer, nn.Linear | RowConv2d)
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
    def pays(layer: nn.Linear | nn.Conv2d, x: Tensor, stride: int) -> bool:
        """Whether a product of x takes less time than in float32. Both give the same sums."""
        positions = x.numel() // (layer.weight.shape[1] * stride**2)
        return positions * layer.weight.numel() >= LEAST

    def __call__(self, digits: Tensor, grids: Grids = ()) -> Tensor:
        if self._matrix:
            return self._multiplied(digits)
        layer = self._layer
        assert isinstance(layer, nn.Conv2d)
        if isinstance(layer, GridConv2d):
            reach = layer.kernel_size[0] // 2
            return join([self._padded(digits, of.around(reach), of.stride) for of in grids])
        rows, columns = (int(side) for side in layer.padding)
        return self._padded(digits, (columns, columns, rows, rows), 1)

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
