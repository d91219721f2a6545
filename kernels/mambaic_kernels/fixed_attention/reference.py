"""The definition of attention in fixed point: plain torch, one operation after the other."""

from __future__ import annotations

import math
from typing import NamedTuple

from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from mambaic_kernels.fixed_point.reference import shares, to_grid, to_levels

BEYOND = -1e4  # logit of what is beyond the map: next to it nothing has a share


class Scales(NamedTuple):
    """Steps per unit and most steps of queries, keys and values; what one of a product of queries
    and keys is; steps of ``powers`` per unit, how many parts are shared out, and what one of a
    product of parts and values is."""

    q: tuple[float, float]
    k: tuple[float, float]
    v: tuple[float, float]
    per_unit: float
    per_step: float
    parts: float
    out: float


def attention(qkv: Tensor, bias: Tensor, offset: Tensor, powers: Tensor, scales: Scales) -> Tensor:
    """See ``mambaic_kernels.fixed_attention.attention``."""
    size = math.isqrt(len(offset))
    of_windows, logits = windows(qkv, size, len(bias)), bias[:, offset][None]
    if (mask := beyond(qkv, size)) is not None:
        logits = logits + mask
    q, k, v = (to_levels(x, *of) for x, of in zip(of_windows, scales[:3], strict=True))
    products = q @ k.transpose(-1, -2)
    parts = shares(products, logits, powers, scales.per_unit, scales.per_step, scales.parts)
    found = to_grid((parts @ v).mul_(scales.out))
    return from_windows(found, qkv, size)


def windows(qkv: Tensor, size: int, heads: int) -> Tensor:
    """Queries, keys and values of all windows (3, n, heads, S, c), zero beyond the map."""
    height, width = qkv.shape[1:3]
    padded = F.pad(qkv, (0, 0, 0, -width % size, 0, -height % size))
    into = "b (rows i) (cols j) (part heads c) -> part (b rows cols) heads (i j) c"
    return rearrange(padded, into, i=size, j=size, part=3, heads=heads)


def from_windows(found: Tensor, qkv: Tensor, size: int) -> Tensor:
    """The map (B, H, W, heads * c) of windows (n, heads, S, c)."""
    height, width = qkv.shape[1:3]
    into = "(b rows cols) heads (i j) c -> b (rows i) (cols j) (heads c)"
    rows, cols = -(-height // size), -(-width // size)
    found = rearrange(found, into, rows=rows, cols=cols, i=size)
    return found[:, :height, :width]


def beyond(qkv: Tensor, size: int) -> Tensor | None:
    """BEYOND for keys that are beyond the map, (n, 1, 1, S); None if there are none."""
    batch, height, width = qkv.shape[:3]
    if height % size == 0 and width % size == 0:
        return None
    inside = qkv.new_full((1, height, width), 0.0)
    padded = F.pad(inside, (0, -width % size, 0, -height % size), value=BEYOND)
    into = "b (rows i) (cols j) -> (b rows cols) 1 1 (i j)"
    return rearrange(padded, into, i=size, j=size).repeat(batch, 1, 1, 1)
