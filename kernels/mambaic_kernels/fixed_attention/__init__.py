"""Attention within windows of a map, in fixed point."""

from __future__ import annotations

from torch import Tensor

from mambaic_kernels.dispatch import module_for
from mambaic_kernels.fixed_attention.reference import Scales

__all__ = ["Scales", "attention"]


def attention(qkv: Tensor, bias: Tensor, offset: Tensor, powers: Tensor, scales: Scales) -> Tensor:
    """Every window of a map by itself: qkv (B, H, W, 3 * heads * c) -> (B, H, W, heads * c).

    Args:
        bias: (heads, offsets) of logits.
        offset: (S, S) the place in it of every query and key of a window, S = side * side.
        powers: integers exp(-i / scales.per_step), the last of them 0.
    """
    found: Tensor = module_for(__name__, qkv).attention(qkv, bias, offset, powers, scales)
    return found
