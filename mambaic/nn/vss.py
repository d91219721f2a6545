"""Visual state-space block: four-direction selective scan (SS2D), then a gated feed-forward net.

[Liu2024] VMamba, arXiv:2401.10166, Sec. 3.2 and Fig. 3.  [Gu2023] Mamba, arXiv:2312.00752, Alg. 2.

B batch, C channels, D = expansion * C inner width, N state size, R rank of delta, 4 directions.
Differs from [Liu2024]: one projection makes the operands of all directions; with lines="reset" the
state starts anew at each row and column, so that the result does not depend on the image width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor, nn

from mambaic.config import VSSConfig
from mambaic.nn.chunking import by_rows, channels_at_once, squares_at_once
from mambaic.nn.products import product
from mambaic_kernels import ss2d_scan
from mambaic_kernels.scan.projected import projected_scan, suits

DIRECTIONS = 4


class LowRank(nn.Identity):
    """The factors of delta, as they enter its projection."""


class SS2D(nn.Module):
    """Selective scan of (B, H, W, D) along rows and columns, both ways; the sum of the four.

    With a ``span`` the map is cut into squares of that side, each scanned alone: states remember no
    more positions than training has shown them.
    """

    def __init__(self, width: int, config: VSSConfig, span: int = 0) -> None:
        super().__init__()
        self.span = span
        self.lines = config.lines
        self.d_state = config.d_state
        self.rank = max(4, math.ceil(width / 16))
        self.in_proj = nn.Linear(width, DIRECTIONS * (self.rank + 2 * self.d_state), bias=False)
        self.low_rank = LowRank()
        self.delta_proj = nn.Parameter(torch.empty(DIRECTIONS, self.rank, width))
        nn.init.uniform_(self.delta_proj, -(self.rank**-0.5), self.rank**-0.5)
        # delta starts log-uniform in [0.01, 0.3]: memories of 3 to 100 positions
        delta = torch.exp(
            torch.rand(DIRECTIONS, width) * (math.log(0.3) - math.log(0.01)) + math.log(0.01)
        )
        self.delta_bias = nn.Parameter(delta + torch.log(-torch.expm1(-delta)))
        states = torch.arange(1, self.d_state + 1, dtype=torch.float32)
        self.A_log = nn.Parameter(torch.log(states).expand(DIRECTIONS, width, -1).clone())
        self.D = nn.Parameter(torch.full((DIRECTIONS, width), 0.25))

    def forward(self, u: Tensor) -> Tensor:
        height, width = u.shape[1:3]
        if not self.span or max(height, width) <= self.span:
            return self._scan(u)
        out = torch.empty_like(u)
        for rows, side in self._stretches(height):
            for columns, other in self._stretches(width):
                where = slice(None), rows, columns
                out[where] = self._scan_squares(u[where], side, other)
        return out

    def _stretches(self, length: int) -> Iterator[tuple[slice, int]]:
        """Where along a side squares are of the same length, and that."""
        whole = length - length % self.span
        if whole:
            yield slice(whole), self.span
        if whole < length:
            yield slice(whole, length), length - whole

    def _scan_squares(self, u: Tensor, side: int, other: int) -> Tensor:
        """Every square of (side, other) positions alone, several of them as one batch."""
        rows = u.shape[1] // side
        squares = rearrange(u, "b (i h) (j w) d -> (b i j) h w d", h=side, w=other)
        count = squares_at_once(side * other, u.device)
        parts = [self._scan(part.contiguous()) for part in squares.split(count)]
        scanned = parts[0] if len(parts) == 1 else torch.cat(parts)
        return rearrange(scanned, "(b i j) h w d -> b (i h) (j w) d", b=len(u), i=rows)

    def _scan(self, u: Tensor) -> Tensor:
        batch, height, width, channels = u.shape
        operands = self.in_proj(u).view(batch, height, width, DIRECTIONS, -1)
        low_rank, B, C = operands.split([self.rank, self.d_state, self.d_state], dim=-1)
        low_rank = self.low_rank(low_rank)
        A = -torch.exp(self.A_log)
        if suits(u):
            weights = self.delta_proj, self.delta_bias, A, self.D
            return projected_scan(u, operands, *weights, self.lines).to(u.dtype)
        wide = torch.promote_types(u.dtype, torch.float32)
        B, C = (t.to(wide).contiguous() for t in (B, C))
        # channels do not meet in a scan: on large maps a few at a time, as delta, four times the
        # size of u and its temporaries, would be most of the memory of a tile
        size = channels_at_once(height * width, channels, u.device)
        parts = []
        for start in range(0, channels, size):
            own = slice(start, start + size)
            # one plain product per direction instead of one batched one: same numerics for any
            # batch
            delta = torch.stack(
                [
                    low_rank[..., k, :] @ self.delta_proj[k, :, own].to(low_rank.dtype)
                    for k in range(DIRECTIONS)
                ],
                dim=-2,
            )
            with torch.autocast(u.device.type, enabled=False):
                y = ss2d_scan(
                    u[..., own].to(wide),
                    delta.to(wide),
                    A[:, own],
                    B,
                    C,
                    self.D[:, own],
                    self.delta_bias[:, own],
                    delta_softplus=True,
                    lines=self.lines,
                )
            parts.append(y.to(u.dtype))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


class VSSBlock(nn.Module):
    """Residual SS2D branch with SiLU gate, then residual gated FFN, on (B, C, H, W)."""

    def __init__(self, channels: int, config: VSSConfig, span: int = 0) -> None:
        super().__init__()
        inner = int(channels * config.expansion)
        hidden = int(channels * config.ffn_expansion)
        self.norm = nn.LayerNorm(channels)
        self.in_proj = nn.Linear(channels, 2 * inner)
        self.act = nn.SiLU()
        self.conv = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.scan = SS2D(inner, config, span)
        self.scan_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, channels)
        self.ffn_norm = nn.LayerNorm(channels)
        self.ffn_in = nn.Linear(channels, 2 * hidden)
        self.ffn_out = nn.Linear(hidden, channels)
        with torch.no_grad():
            self.out_proj.weight.mul_(0.2)
            self.ffn_out.weight.mul_(0.2)

    def forward(self, x: Tensor) -> Tensor:
        t = rearrange(x, "b c h w -> b h w c")
        u, gate = self.in_proj(self.norm(t)).chunk(2, dim=-1)
        gate = self.act(gate)  # before the scan, so that the product's memory is free during it
        u = product(self.conv, rearrange(u, "b h w c -> b c h w"), act=self.act)
        u = rearrange(u, "b c h w -> b h w c")
        t = by_rows(self._gated, t, self.scan(u), gate, dim=1)
        return rearrange(by_rows(self._feed_forward, t, dim=1), "b h w c -> b c h w")

    def _gated(self, t: Tensor, y: Tensor, gate: Tensor) -> Tensor:
        return product(self.out_proj, self.scan_norm(y), times=gate, plus=t)

    def _feed_forward(self, t: Tensor) -> Tensor:
        value, gate = self.ffn_in(self.ffn_norm(t)).chunk(2, dim=-1)
        return product(self.ffn_out, value, times=self.act(gate), plus=t)
