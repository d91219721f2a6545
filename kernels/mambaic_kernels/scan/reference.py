"""The definition: plain torch, one step of the recurrence after the other, any float dtype.

[Gu2023] Mamba, arXiv:2312.00752, Alg. 2:
    dt = softplus(delta + delta_bias);  h = exp(dt * A) * h + dt * B * u;  y = C . h + D * u
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mambaic_kernels.scan.layout import DIRECTIONS, from_sequence, to_sequence


def recurrence(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """u, dt (S, L, D); A (D, N); B, C (S, L, D, N) or broadcastable -> y (S, L, D), h (S, D, N)."""
    h = u.new_zeros(u.shape[0], u.shape[2], A.shape[-1])
    inflow = (dt * u)[..., None]
    rows = []
    for step in range(u.shape[1]):
        decay = torch.exp(dt[:, step, :, None] * A)
        h = torch.addcmul(inflow[:, step] * B[:, step], decay, h)
        rows.append((h * C[:, step]).sum(-1))
    return torch.stack(rows, dim=1), h


def ss2d_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    lines: str,
) -> Tensor:
    """See ``mambaic_kernels.ss2d_scan``."""
    size = (u.shape[0], u.shape[1], u.shape[2])
    dt = delta if delta_bias is None else delta + delta_bias
    dt = F.softplus(dt) if delta_softplus else dt
    total = torch.zeros_like(u)
    for k in range(DIRECTIONS):
        u_k = to_sequence(u, k, lines)
        y, _ = recurrence(
            u_k,
            to_sequence(dt[..., k, :], k, lines),
            A[k],
            to_sequence(B[..., k, :], k, lines)[:, :, None],
            to_sequence(C[..., k, :], k, lines)[:, :, None],
        )
        if D is not None:
            y = y + D[k] * u_k
        total = total + from_sequence(y, k, lines, size)
    return total


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> tuple[Tensor, Tensor]:
    """u, delta (B, D, L); A (D, N); B, C (B, G, N, L) -> y without skip and gate, last state."""
    dt = delta if delta_bias is None else delta + delta_bias[:, None]
    dt = F.softplus(dt) if delta_softplus else dt
    repeat = u.shape[1] // B.shape[1]
    B_full = B.repeat_interleave(repeat, dim=1).permute(0, 3, 1, 2)
    C_full = C.repeat_interleave(repeat, dim=1).permute(0, 3, 1, 2)
    y, h = recurrence(u.transpose(1, 2), dt.transpose(1, 2), A, B_full, C_full)
    return y.transpose(1, 2), h
