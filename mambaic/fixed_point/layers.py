"""Fixed-point layers with weights.

A product takes inputs in ``levels`` steps of either sign over the ``reach`` that photographs
showed, and weights in WEIGHT_LEVELS steps of either sign of every output channel's largest. There
are as many levels as keep every sum under EXACT, at most MOST_LEVELS.
"""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import Tensor, nn

from mambaic.fixed_point.byte_products import LARGEST_BYTE, ByteProduct
from mambaic.fixed_point.functions import FixedLogFeatures, FixedSoftplus, FixedTanh
from mambaic.nn.blocks import FeatureConv2d, QualityModulation, RowConv2d, quality_features
from mambaic.nn.chunking import channels_at_once
from mambaic.nn.gains import QualityCurve, interpolated
from mambaic.nn.grid import EXACT, PER_UNIT, UNIT, few_bits, to_grid
from mambaic.nn.vss import DIRECTIONS, SS2D
from mambaic_kernels.fixed_point import norm as fixed_norm
from mambaic_kernels.fixed_point import rescale, rescale_digits, shares, to_digits, to_levels
from mambaic_kernels.fixed_scan import fixed_scan

M = TypeVar("M", bound=nn.Module)

WEIGHT_LEVELS = 127
MOST_LEVELS = 2047


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

    def __init__(self, weight: Tensor) -> None:
        rows = weight.detach().cpu().float().flatten(1)
        self.scale = rows.abs().amax(dim=1) / WEIGHT_LEVELS
        self.scale[self.scale == 0] = 1.0
        ints = (rows / self.scale[:, None]).round_()
        self.integers = ints.view_as(weight)
        largest = int(ints.abs().double().sum(dim=1).max())
        self.levels = min(MOST_LEVELS, EXACT // max(1, largest))


def shallow_copy(module: M) -> M:
    """A module that shares what is in the other one, until parts of it are replaced."""
    found = copy.copy(module)
    found._parameters, found._modules = dict(module._parameters), dict(module._modules)
    return found


class FixedProduct(nn.Module):
    """Twin of a linear layer or convolution, whose forward it uses with integers."""

    multiplier: Tensor
    bias: Tensor

    def __init__(self, float_layer: nn.Linear | nn.Conv2d, reach: float) -> None:
        super().__init__()
        weights = Weights(float_layer.weight)
        into = Levels(reach, weights.levels)
        layer = shallow_copy(float_layer)
        layer.weight = nn.Parameter(weights.integers, requires_grad=False)
        layer.bias = None
        self.channel = -1 if isinstance(layer, nn.Linear | RowConv2d) else 1
        bias = (
            torch.zeros(1, dtype=torch.float32)
            if float_layer.bias is None
            else float_layer.bias.detach().cpu()
        )
        multiplier = weights.scale * into.step * PER_UNIT
        self.register_buffer("multiplier", multiplier, persistent=False)
        self.register_buffer("bias", to_grid(bias.float()), persistent=False)
        self.into = into
        self.features: nn.Module | None = None
        if isinstance(layer, FeatureConv2d):
            layer.features, self.features = nn.Identity(), FixedLogFeatures()
        self.layer = layer
        self._in_bytes: ByteProduct | None = None

    def forward(self, x: Tensor, *where: int) -> Tensor:
        if self.features is not None:
            x = self.features(x)
        if self._suits_bytes(x, *where):
            if self._in_bytes is None:
                self._in_bytes = ByteProduct(self.layer)
            digits = to_digits(x, self.into.per_step, self.into.levels, self.channel)
            sums, zero = self._in_bytes(digits, *where), self._in_bytes.zero
            return rescale_digits(sums, zero, self.multiplier, self.bias, self.channel)
        sums = self.layer(self.into(x), *where)
        return rescale(sums, self.multiplier, self.bias, self.channel)

    def _suits_bytes(self, x: Tensor, *where: int) -> bool:
        if x.device.type != "cpu" or x.requires_grad or self.into.levels < LARGEST_BYTE:
            return False  # the last: float32 would not hold all sums of bytes
        stride = where[-1] if where else 1
        return ByteProduct.pays(self.layer, x, stride) and ByteProduct.suits(self.layer)


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
    """``AttentionCore``: probabilities in SHARES parts of one."""

    SHARES, PER_UNIT, PEAK, LAST = 4095, 256.0, 16384.0, 3071.0

    powers: Tensor

    def __init__(self, *reaches: float) -> None:
        super().__init__()
        self.reaches = reaches
        steps = torch.arange(self.LAST + 1, dtype=torch.float64) / self.PER_UNIT
        powers = torch.round(torch.exp(-steps) * self.PEAK).float()
        self.register_buffer("powers", powers, persistent=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        width, keys = q.shape[-1], k.shape[-2]
        pairs = min(511, math.isqrt(EXACT // width))
        of_q, of_k = (Levels(reach, pairs) for reach in self.reaches[:2])
        of_v = Levels(self.reaches[2], min(MOST_LEVELS, EXACT // (self.SHARES + keys)))
        products = of_q(q) @ of_k(k).transpose(-1, -2)
        per_unit = of_q.step * of_k.step * torch.tensor(width**-0.5, dtype=torch.float32)
        parts = shares(
            products, bias, self.powers, float(per_unit), self.PER_UNIT, float(self.SHARES)
        )
        return to_grid((parts @ of_v(v)).mul_(of_v.step / self.SHARES))


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

    def _scan(self, u: Tensor) -> Tensor:
        batch, height, width, channels = u.shape
        operands = self.in_proj(u).view(batch, height, width, DIRECTIONS, -1)
        low_rank, B, C = operands.split([self.rank, self.d_state, self.d_state], dim=-1)
        integers = self.into(low_rank)
        B, C = (of.flatten(1, 2).contiguous() for of in (B, C))
        skipped = to_grid(u * self.get_buffer("skip"))
        # on large maps a few channels at a time, as in ``SS2D``
        size = channels_at_once(height * width, channels, u.device)
        for start in range(0, channels, size):
            own = slice(start, start + size)
            y = fixed_scan(
                u[..., own].flatten(1, 2),
                self._delta(integers, own).flatten(1, 2),
                self.get_buffer("rates")[..., own],
                B,
                C,
                (height, width),
                reset=self.lines == "reset",
            )
            skipped[..., own] += to_grid(y).view_as(skipped[..., own])
        return skipped

    def _delta(self, integers: Tensor, own: slice) -> Tensor:
        """(B, H, W, DIRECTIONS, n) of some of the channels."""
        weight, scale, bias = (
            self.get_buffer(f"delta_{name}")[..., own] for name in ("weight", "scale", "bias")
        )
        sums = torch.stack([integers[..., k, :] @ weight[k] for k in range(DIRECTIONS)], dim=-2)
        delta = rescale(sums.flatten(-2), scale.flatten(), bias.flatten(), -1)
        return self.softplus(delta.view(sums.shape))


class FixedQualityCurve(nn.Module):
    """``QualityCurve``, of products and sums in float64, each of which IEEE defines."""

    values: Tensor

    def __init__(self, curve: QualityCurve) -> None:
        super().__init__()
        self._on_host = curve.values.detach().cpu().double()
        self.register_buffer("values", self._on_host, persistent=False)  # where results go

    def forward(self, q: Tensor) -> Tensor:
        value = interpolated(self._on_host, q.cpu())
        return to_grid(value).float().to(self.values.device)[:, :, None, None]


class FixedModulation(nn.Module):
    """``QualityModulation``: products and sums in float64, one after the other in order."""

    def __init__(self, modulation: QualityModulation) -> None:
        super().__init__()
        self.hidden, self.out = (
            (layer.weight.detach().cpu().double(), layer.bias.detach().cpu().double())
            for layer in (modulation.hidden, modulation.out)
        )
        self.tanh = (FixedTanh(),)  # no submodule: it stays on the host

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        features = quality_features(q.cpu().double())
        hidden = self.tanh[0](to_grid(_in_order(features, *self.hidden)).float())
        factors = to_grid(_in_order(hidden.double(), *self.out)).float().to(x.device)
        scale, shift = factors[:, :, None, None].chunk(2, dim=1)
        return to_grid(x * (1 + scale)) + shift


def _in_order(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer (B, n) -> (B, out) summed from the first feature to the last."""
    total = bias.expand(len(features), -1)
    for feature, column in zip(features.T, weight.T, strict=True):
        total = total + feature[:, None] * column
    return total
