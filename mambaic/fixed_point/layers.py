"""Fixed-point layers with weights.

A product takes inputs in ``levels`` steps of either sign over the ``reach`` that photographs
showed, and weights in WEIGHT_LEVELS steps of either sign of every output channel's largest. There
are as many levels as keep every sum under EXACT, at most MOST_LEVELS or what a network asks for.
"""

from __future__ import annotations

import copy
import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mambaic.config import MOST_LEVELS
from mambaic.fixed_point.byte_products import LARGEST_BYTE, ByteProduct
from mambaic.fixed_point.functions import FixedLogFeatures, FixedSoftplus
from mambaic.nn.blocks import OF_FEATURES, RowConv2d
from mambaic.nn.chunking import channels_at_once
from mambaic.nn.grid import EXACT, PER_UNIT, UNIT, few_bits, to_grid
from mambaic.nn.products import Affine, FusedLayer
from mambaic.nn.vss import DIRECTIONS, SS2D
from mambaic_kernels.fixed_attention import Scales, attention
from mambaic_kernels.fixed_point import norm as fixed_norm
from mambaic_kernels.fixed_point import to_levels
from mambaic_kernels.fixed_point.reference import digit_count
from mambaic_kernels.fixed_product import Places, directed, product
from mambaic_kernels.fixed_product.passes import digits
from mambaic_kernels.fixed_scan import Steps, fixed_scan, projected_scan, suits
from mambaic_kernels.grids import Grids, take

M = TypeVar("M", bound=nn.Module)

WEIGHT_LEVELS = 127


class Levels(nn.Module):
    """Inputs as integers in [-levels, levels], of which one is ``step``."""

    def __init__(self, reach: float, levels: int) -> None:
        super().__init__()
        self.levels = float(levels)
        reach32 = torch.tensor(max(reach, UNIT), dtype=torch.float32)
        self.step = reach32 / levels
        self.per_step = float(levels / reach32)

    def forward(self, x: Tensor) -> Tensor:
        return to_levels(x, self.per_step, self.levels)


class Weights:
    """Integers of a weight (out, ...), the size of one in every row, and how many ``levels`` their
    inputs may have."""

    def __init__(self, weight: Tensor, most: int = MOST_LEVELS) -> None:
        rows = weight.detach().cpu().float().flatten(1)
        self.scale = rows.abs().amax(dim=1) / WEIGHT_LEVELS
        self.scale[self.scale == 0] = 1.0
        ints = (rows / self.scale[:, None]).round_()
        self.integers = ints.view_as(weight)
        self.largest = int(ints.abs().double().sum(dim=1).max())  # sum of a row's magnitudes
        self.levels = min(most, EXACT // max(1, self.largest))


def shallow_copy(module: M) -> M:
    """A module that shares what is in the other one, until parts of it are replaced."""
    found = copy.copy(module)
    found._parameters, found._modules = dict(module._parameters), dict(module._modules)
    return found


class FixedProduct(FusedLayer):
    """Twin of a linear layer or convolution, whose forward it uses with integers."""

    multiplier: Tensor
    bias: Tensor

    def __init__(
        self, float_layer: nn.Linear | nn.Conv2d, reach: float, most: int = MOST_LEVELS
    ) -> None:
        super().__init__()
        weights = Weights(float_layer.weight, most)
        into = Levels(reach, weights.levels)
        layer = shallow_copy(float_layer)
        layer.weight = nn.Parameter(weights.integers, requires_grad=False)
        layer.bias = None
        bias = (
            torch.zeros(1, dtype=torch.float32)
            if float_layer.bias is None
            else float_layer.bias.detach().cpu()
        )
        multiplier = weights.scale * into.step * PER_UNIT
        self.register_buffer("multiplier", multiplier, persistent=False)
        self.register_buffer("bias", to_grid(bias.float()), persistent=False)
        self.into = into
        self.features = FixedLogFeatures() if isinstance(layer, OF_FEATURES) else None
        self.layer, self.places = layer, _places(layer)
        # else float32 would not hold all sums of bytes
        self._fits_bytes = weights.largest * LARGEST_BYTE <= EXACT
        self._in_bytes: ByteProduct | None = None

    def forward(self, x: Tensor, *where: Grids) -> Tensor:
        return self.fused(x, *where)

    def fused(
        self,
        x: Tensor,
        *where: Any,
        times: Tensor | None = None,
        affine: Affine | None = None,
        act: nn.Module | None = None,
        plus: Tensor | None = None,
    ) -> Tensor:
        levels, places = (self.into.per_step, self.into.levels), self.places
        if where:
            places = places._replace(grids=where[0])
        if affine is not None:
            affine = affine[0].flatten(1), affine[1].flatten(1)
        around: dict[str, Any] = {
            "affine": affine, "act": None if act is None else act.activation, "plus": plus
        }  # fmt: skip
        if self._suits_bytes(x, places):
            return self._by_bytes(x, levels, places, times, **around)
        if self.features is not None:
            x, levels = self.features.levels(x, *levels), (1.0, self.into.levels)
        weights = self.layer.weight, self.multiplier, self.bias
        return product(x, *weights, levels, places, times, **around)

    def _by_bytes(
        self,
        x: Tensor,
        levels: tuple[float, float],
        places: Places,
        times: Tensor | None,
        **around: Any,
    ) -> Tensor:
        if self._in_bytes is None:
            self._in_bytes = ByteProduct(self.layer, digit_count(self.into.levels))
        grids, channel = places.grids, places.channel
        if grids and places.side == 1:
            x, times = take(x, grids), None if times is None else take(times, grids)
            grids, channel = (), -1
        around |= {"multiplier": self.multiplier, "bias": self.bias, "times": times}
        features = self.features

        def of_part(part: Tensor, factors: Tensor | None) -> Tensor:
            if features is not None:
                return features.digits(part, *levels)
            return digits(part, *levels, channel, factors)

        return self._in_bytes.fused(x, of_part, channel, grids, **around)

    def _suits_bytes(self, x: Tensor, places: Places) -> bool:
        if x.device.type != "cpu" or x.requires_grad or not self._fits_bytes:
            return False
        stride = places.grids[0].stride if places.grids else 1
        pays = ByteProduct.pays(self.layer, x, places.channel, stride)
        return pays and ByteProduct.suits(self.layer)


def _places(layer: nn.Linear | nn.Conv2d) -> Places:
    """Of a layer as its ``forward`` has them."""
    if isinstance(layer, nn.Linear | RowConv2d):
        return Places()
    assert not isinstance(layer.padding, str)
    sizes = layer.kernel_size, layer.padding, layer.dilation, layer.stride
    side, before, dilation, stride = (int(rows) for rows, columns in sizes if rows == columns)
    return Places(1, side, before, dilation, stride, layer.groups > 1)


class FixedNorm(nn.Module):
    """``nn.LayerNorm`` over the last dimension; the variance from VARIANCE_LEVELS steps."""

    VARIANCE_LEVELS = 1023

    weight: Tensor
    bias: Tensor

    def __init__(self, norm: nn.LayerNorm, reach: float) -> None:
        super().__init__()
        (width,) = norm.normalized_shape
        fine, coarse = Levels(reach, EXACT // width), Levels(2 * reach, self.VARIANCE_LEVELS)
        self.fine = fine.per_step, fine.levels, float(fine.step / width)
        self.coarse = coarse.per_step, coarse.levels, float(coarse.step * coarse.step / width)
        self.eps = norm.eps
        self.register_buffer("weight", norm.weight.detach().float(), persistent=False)
        self.register_buffer("bias", to_grid(norm.bias.detach().float()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return fixed_norm(x, self.weight, self.bias, self.fine, self.coarse, self.eps)


class FixedAttention(nn.Module):
    """``WindowCore``: probabilities in SHARES parts of one."""

    SHARES, PER_UNIT, PEAK, LAST = 4095, 256.0, 16384.0, 3071.0

    powers: Tensor

    def __init__(self, *reaches: float) -> None:
        super().__init__()
        self.reaches = reaches
        steps = torch.arange(self.LAST + 1, dtype=torch.float64) / self.PER_UNIT
        powers = torch.round(torch.exp(-steps) * self.PEAK).float()
        self.register_buffer("powers", powers, persistent=False)

    def forward(self, qkv: Tensor, bias: Tensor, offset: Tensor) -> Tensor:
        width, keys = qkv.shape[-1] // 3 // len(bias), len(offset)
        pairs = min(511, math.isqrt(EXACT // width))
        most = pairs, pairs, min(MOST_LEVELS, EXACT // (self.SHARES + keys))
        q, k, v = (Levels(reach, of) for reach, of in zip(self.reaches, most, strict=True))
        per_unit = q.step * k.step * torch.tensor(width**-0.5, dtype=torch.float32)
        scales = Scales(
            (q.per_step, q.levels), (k.per_step, k.levels), (v.per_step, v.levels),
            float(per_unit), self.PER_UNIT, float(self.SHARES), float(v.step / self.SHARES),
        )  # fmt: skip
        return attention(qkv, bias, offset, self.powers, scales)


class FixedSS2D(SS2D):
    """``SS2D`` by ``fixed_scan``."""

    def __init__(self, scan: SS2D, in_proj: FixedProduct, reach: float) -> None:
        nn.Module.__init__(self)
        self.span, self.lines = scan.span, scan.lines
        self.d_state, self.rank = scan.d_state, scan.rank
        self.in_proj: nn.Module = in_proj  # type: ignore[assignment]
        self.softplus = FixedSoftplus()
        weight = scan.delta_proj.detach().transpose(1, 2)  # (DIRECTIONS, width, rank)
        width = weight.shape[1]
        weights = Weights(weight.reshape(-1, self.rank))
        self.into = Levels(reach, weights.levels)
        by_direction = weights.integers.view(DIRECTIONS, width, self.rank).transpose(1, 2)
        rates = few_bits(torch.exp(to_grid(scan.A_log.detach().cpu().float()).double()).numpy())
        skip = to_grid(scan.D.detach().cpu().float()).sum(dim=0)
        for name, tensor in {
            "delta_weight": by_direction.contiguous(),
            "delta_scale": (weights.scale * self.into.step * PER_UNIT).view(DIRECTIONS, width),
            "delta_bias": to_grid(scan.delta_bias.detach().cpu().float()),
            "rates": torch.from_numpy(rates).transpose(1, 2).contiguous(),  # (DIRECTIONS, N, D)
            "skip": skip,
        }.items():
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, u: Tensor) -> Tensor:
        # where squares begin, so do lines
        return self._scan(u) if self.lines == "reset" else super().forward(u)

    def _scan(self, u: Tensor) -> Tensor:
        batch, height, width, channels = u.shape
        operands = self.in_proj(u).view(batch, height, width, DIRECTIONS, -1)
        reset = self.lines == "reset"
        squares: dict[str, Any] = {"reset": reset, "span": self.span if reset else 0}
        rates, skip = self.get_buffer("rates"), self.get_buffer("skip")
        if suits(u):
            return projected_scan(u, operands, self._steps(), rates, **squares, skip=skip)
        low_rank, B, C = operands.split([self.rank, self.d_state, self.d_state], dim=-1)
        B, C = B.flatten(1, 2), C.flatten(1, 2)
        # on large maps a few channels at a time, as in ``SS2D``
        size = channels_at_once(height * width, channels, u.device)
        parts = []
        for start in range(0, channels, size):
            own = slice(start, start + size)
            y = fixed_scan(
                u[..., own].flatten(1, 2),
                directed(low_rank, *self._steps(own)).flatten(1, 2),
                rates[..., own],
                B,
                C,
                (height, width),
                **squares,
                skip=skip[own],
            )
            parts.append(y.view(batch, height, width, -1))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def _steps(self, own: slice = slice(None)) -> Steps:
        """Of some of the channels."""
        weight, scale, bias = (
            self.get_buffer(f"delta_{name}")[..., own] for name in ("weight", "scale", "bias")
        )
        levels = self.into.per_step, self.into.levels
        return Steps(weight, scale, bias, levels, self.softplus.activation)
