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


class AttentionCore(nn.Module):
    """Attention of (n, heads, S, c) with a ``bias`` (1 or n, heads or 1, S, S) of its logits."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))


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
        self.core = AttentionCore()
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
        batch, _, height, width = x.shape
        size = self.window
        pad_h, pad_w = -height % size, -width % size
        t = F.pad(self.norm(rearrange(x, "b c h w -> b h w c")), (0, 0, 0, pad_w, 0, pad_h))
        rows, cols = (height + pad_h) // size, (width + pad_w) // size
        windows = rearrange(t, "b (rows i) (cols j) c -> (b rows cols) (i j) c", i=size, j=size)
        of_heads = "n s (part heads c) -> part n heads s c"
        q, k, v = rearrange(self.qkv(windows), of_heads, part=3, heads=self.heads)
        offset = self.get_buffer("offset")
        bias = self.bias[:, offset].unsqueeze(0)  # (1, heads, S, S)
        if pad_h or pad_w:
            bias = bias + self._padding_mask(height, width, rows, cols, batch)
        t = self.core(q, k, v, bias)
        t = self.out(rearrange(t, "n heads s c -> n s (heads c)"))
        to_map = "(b rows cols) (i j) c -> b (rows i) (cols j) c"
        t = rearrange(t, to_map, rows=rows, cols=cols, i=size)[:, :height, :width]
        return x + rearrange(t, "b h w c -> b c h w")

    def _padding_mask(self, height: int, width: int, rows: int, cols: int, batch: int) -> Tensor:
        """Large negative for keys beyond the map, (batch * windows, 1, 1, S)."""
        size, device = self.window, self.bias.device
        inside = (torch.arange(rows * size, device=device) < height)[:, None] & (
            torch.arange(cols * size, device=device) < width
        )
        inside = rearrange(inside, "(rows i) (cols j) -> (rows cols) 1 1 (i j)", i=size, j=size)
        mask = torch.zeros(inside.shape, device=device, dtype=self.bias.dtype)
        return mask.masked_fill(~inside, -1e4).repeat(batch, 1, 1, 1)
