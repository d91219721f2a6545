"""Transforms by products of bytes: for coding on CPUs that have them.

Weights of 3x3 convolutions have 8 bits, inputs 12 of the range that they have in a call. All else
stays in float32, and so do networks on other devices: pixels of two decoders may differ by a
rounding, 0.1 % of the squared error that a file leaves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mambaic.config import MOST_LEVELS
from mambaic.fixed_point.byte_products import ByteProduct
from mambaic.fixed_point.layers import M, Weights, shallow_copy
from mambaic.nn.grid import UNIT
from mambaic.nn.products import Affine, FusedLayer, product
from mambaic_kernels.fixed_point.activation import LEAKY, Activation
from mambaic_kernels.fixed_product.passes import digits


class ByteConv2d(FusedLayer):
    """A convolution of a batch of one."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weights = Weights(conv.weight)
        whole = shallow_copy(conv)
        whole.weight = nn.Parameter(weights.integers, requires_grad=False)
        self._product = ByteProduct(whole)
        self._scale = weights.scale
        self._bias = torch.zeros(1) if conv.bias is None else conv.bias.detach()
        self._conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return self.fused(x)

    def fused(
        self,
        x: Tensor,
        *where: Any,
        times: Tensor | None = None,
        affine: Affine | None = None,
        act: nn.Module | None = None,
        plus: Tensor | None = None,
    ) -> Tensor:
        plain = times is None and affine is None and isinstance(act, nn.LeakyReLU | None)
        if not plain or not ByteProduct.pays(self._conv, x, 1, self._conv.stride[0]):
            return product(self._conv, x, *where, times=times, affine=affine, act=act, plus=plus)
        x = x.contiguous(memory_format=torch.channels_last)
        # of a dense vector: of maps with their channels last torch takes twenty times as long
        low, high = torch.aminmax(x.movedim(1, -1).reshape(-1))
        reach = max(-float(low), float(high), UNIT)
        leaky = Activation(LEAKY, act.negative_slope) if isinstance(act, nn.LeakyReLU) else None
        return self._product.fused(
            x,
            lambda part, _: digits(part, MOST_LEVELS / reach, float(MOST_LEVELS), 1),
            1,
            multiplier=self._scale * (reach / MOST_LEVELS),
            bias=self._bias,
            rounded=False,
            act=leaky,
            plus=plus,
        )


def with_bytes(network: M) -> M:
    """The network with ``ByteConv2d`` in place of its dense convolutions; weights are shared."""
    found = shallow_copy(network)
    for name, child in network.named_children():
        if isinstance(child, nn.Conv2d) and max(child.kernel_size) > 1 and ByteProduct.suits(child):
            found.add_module(name, ByteConv2d(child))
        else:
            found.add_module(name, with_bytes(child))
    return found
