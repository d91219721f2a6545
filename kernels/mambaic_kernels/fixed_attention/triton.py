"""CUDA backend: a program per window and head, one launch. Tested with TRITON_INTERPRET=1."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from mambaic_kernels.fixed_attention.reference import Scales
from mambaic_kernels.fixed_point.triton import PER_UNIT_, UNIT_, _levels
from mambaic_kernels.fixed_scan.triton import EXACT, _rint
from mambaic_kernels.scan.operators import watched


@triton.jit
def _part(qkv, at, c, ok, per_step, most):
    """Levels of queries, keys or values of a window (S, c)."""
    own = tl.load(qkv + at[:, None] + c[None, :], mask=ok, other=0.0)
    return _levels(own, per_step, most)


@triton.jit
def _attention_kernel(
    qkv, bias, offset, powers, out,
    height, width, rows, columns, heads, channels, offsets, end, xb, xy, xx,
    per_q, most_q, per_k, most_k, per_v, most_v, per_unit, per_step, parts, scale,
    SIDE: tl.constexpr, BS: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """One window of one head."""
    window = tl.program_id(0)
    head = tl.program_id(1)
    b = (window // (rows * columns)).to(tl.int64)
    s = tl.arange(0, BS)
    c = tl.arange(0, BC)
    y = (window // columns) % rows * SIDE + s // SIDE
    x = window % columns * SIDE + s % SIDE
    here = (s < SIDE * SIDE) & (y < height) & (x < width)
    ok = here[:, None] & (c < channels)[None, :]
    at = b * xb + y * xy + x * xx + head * channels
    whole = heads * channels
    q = _part(qkv, at, c, ok, per_q, most_q)
    k = _part(qkv, at + whole, c, ok, per_k, most_k)
    products = tl.dot(q, tl.trans(k), input_precision="ieee")
    # places that are not there are never stored, and keys that are not there have no share
    pair = (s < SIDE * SIDE)[:, None] & here[None, :]
    place = tl.load(offset + s[:, None] * (SIDE * SIDE) + s[None, :], mask=pair, other=0)
    beside = tl.load(bias + head * offsets + place, mask=pair, other=0.0)
    logits = _rint(products * per_unit * PER_UNIT_) * UNIT_ + _rint(beside * PER_UNIT_) * UNIT_
    most = tl.max(tl.where(here[None, :], logits, float("-inf")), axis=1)
    below = tl.minimum(_rint((most[:, None] - logits) * per_step), end)
    found = tl.load(powers + tl.where(pair, below, 0.0).to(tl.int32), mask=pair, other=0.0)
    total = tl.sum(found, axis=1)
    total = tl.where(total == 0, 1.0, total)
    share = _rint(tl.div_rn(found * parts, tl.zeros_like(found) + total[:, None]))
    v = _part(qkv, at + 2 * whole, c, ok, per_v, most_v)
    sums = tl.dot(share, v, input_precision="ieee")
    to = out + ((b * height + y) * width + x) * whole + head * channels
    tl.store(to[:, None] + c[None, :], _rint(sums * scale * PER_UNIT_) * UNIT_, mask=ok)


def _launch(
    qkv: Tensor, bias: Tensor, offset: Tensor, powers: Tensor, numbers: list[float]
) -> Tensor:
    if qkv.stride(-1) != 1:
        qkv = qkv.contiguous()
    batch, height, width, whole = qkv.shape
    heads, offsets = bias.shape
    out = qkv.new_empty(batch, height, width, whole // 3)
    if not out.numel():
        return out
    side, channels = math.isqrt(len(offset)), whole // 3 // heads
    rows, columns = triton.cdiv(height, side), triton.cdiv(width, side)
    _attention_kernel[(batch * rows * columns, heads)](
        qkv, bias.contiguous(), offset, powers, out,
        height, width, rows, columns, heads, channels, offsets, float(powers.numel() - 1),
        *qkv.stride()[:3], *numbers,
        SIDE=side, BS=max(16, triton.next_power_of_2(side * side)),
        BC=max(16, triton.next_power_of_2(channels)), **EXACT,
    )  # fmt: skip
    return out


_operator: Any = torch.library.custom_op("mambaic::fixed_attention", _launch, mutates_args=())


@_operator.register_fake
def _(qkv, bias, offset, powers, numbers):  # type: ignore[no-untyped-def]
    return qkv.new_empty(*qkv.shape[:-1], qkv.shape[-1] // 3)


def attention(qkv: Tensor, bias: Tensor, offset: Tensor, powers: Tensor, scales: Scales) -> Tensor:
    """See ``mambaic_kernels.fixed_attention.attention``."""
    numbers = [*scales.q, *scales.k, *scales.v, *scales[3:]]
    found: Tensor = (_operator if watched(qkv) else _launch)(qkv, bias, offset, powers, numbers)
    return found
