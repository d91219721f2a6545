"""Window-based local attention (WLA of [Zeng2025], arXiv:2503.12461, Sec. 3.3).

Windows are aligned to the top left corner of the map; positions beyond the map are masked out.
"""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mambaic.nn.chunking import by_rows
from mambaic.nn.products import product
from mambaic_kernels.fixed_attention.reference import beyond, from_windows, windows


class AttentionCore(nn.Module):
    """Attention of (n, heads, S, c) with a ``bias`` (1 or n, heads or 1, S, S) of its logits."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))


class WindowCore(nn.Module):
    """Attention inside windows: queries, keys and values (B, H, W, 3 C) -> (B, H, W, C). ``bias``
    (heads, offsets), ``offset`` (S, S) as in ``mambaic_kernels.fixed_attention``."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window
        self.core = AttentionCore()

    def forward(self, qkv: Tensor, bias: Tensor, offset: Tensor) -> Tensor:
        logits = bias[:, offset].unsqueeze(0)  # (1, heads, S, S)
        if (mask := beyond(qkv, self.window)) is not None:
            logits = logits + mask
        found = self.core(*windows(qkv, self.window, len(bias)), logits)
        return from_windows(found, qkv, self.window)


class WindowAttention(nn.Module):
    """x + attention inside windows of ``window`` x ``window`` positions, on (B, C, H, W).

    Position enters as a learned bias per head and relative offset ([Liu2021] Swin, Eq. 4).
    """

    def __init__(self, channels: int, window: int = 8, head_width: int = 32) -> None:
        super().__init__()
        self.window = window
        self.heads = max(1, channels // head_width)
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.core = WindowCore(window)
        self.out = nn.Linear(channels, channels)
        with torch.no_grad():
            self.out.weight.mul_(0.2)
        self.bias = nn.Parameter(torch.zeros(self.heads, (2 * window - 1) ** 2))
        row, col = np.divmod(np.arange(window**2), window)
        drow = row[:, None] - row + window - 1
        dcol = col[:, None] - col + window - 1
        # in no checkpoint, so by NumPy: there also in a model that is made without memory
        offset = torch.from_numpy(drow * (2 * window - 1) + dcol)
        self.register_buffer("offset", offset, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return by_rows(self._attend, x, dim=2, multiple=self.window)

    def _attend(self, x: Tensor) -> Tensor:
        t = rearrange(x, "b c h w -> b h w c")
        attended = self.core(self.qkv(self.norm(t)), self.bias, self.get_buffer("offset"))
        return rearrange(product(self.out, attended, plus=t), "b h w c -> b c h w")
