"""By torch's matrix products and the operations in numba."""

from __future__ import annotations

from torch import Tensor

from mambaic_kernels.fixed_attention.reference import Scales, attend
from mambaic_kernels.fixed_point import cpu


def attention(qkv: Tensor, bias: Tensor, offset: Tensor, powers: Tensor, scales: Scales) -> Tensor:
    """See ``mambaic_kernels.fixed_attention.attention``."""
    return attend(qkv, bias, offset, powers, scales, cpu)
