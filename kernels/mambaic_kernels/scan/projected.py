"""The four-direction scan for coding on CPUs: time steps are made where they are used.

The operands of a position stay where the layer before has put them, and no map of time steps is
written, which is four times as large as the input: a pass over fresh memory costs as much as the
scan.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mambaic_kernels.scan.cpu import position
from mambaic_kernels.scan.layout import check_lines
from mambaic_kernels.scan.lines import Range, over_lines
from mambaic_kernels.scan.operators import watched
from mambaic_kernels.simd import exp, f32, jit, softplus


@jit(nogil=True)
def _scan(u, operands, weight, bias, A, skip, y, size, directions, lines, of):  # type: ignore[no-untyped-def]
    """Writes the scan of some directions (the first) or adds it to y, on lines and channels of
    ranges."""
    (height, width, reset), (d0, d1) = size, of
    rank, N, channels = weight.shape[1], A.shape[1], d1 - d0
    h = np.empty((N, channels), np.float32)
    t, acc, inflow = np.empty((3, channels), np.float32)
    for b in range(u.shape[0]):
        for k in range(directions[0], directions[1]):
            length = (width if k < 2 else height) if reset else height * width
            for line in range(lines[0], lines[1]):
                path = (k, line, length, height, width, reset)
                h[:] = f32(0)
                for step in range(length):
                    p = position(path, step)
                    x, own, out = u[b, p, d0:d1], operands[b, p, k], y[b, p, d0:d1]
                    start, by = bias[k, d0:d1], skip[d0:d1]
                    for d in range(channels):
                        t[d] = start[d]
                    for r in range(rank):
                        factor, w = own[r], weight[k, r, d0:d1]
                        for d in range(channels):
                            t[d] += factor * w[d]
                    for d in range(channels):
                        t[d] = softplus(t[d])
                        inflow[d] = t[d] * x[d]
                        acc[d] = f32(0)
                    for n in range(N):
                        B_n, C_n = own[rank + n], own[rank + N + n]
                        A_n, h_n = A[k, n, d0:d1], h[n]
                        for d in range(channels):
                            v = exp(t[d] * A_n[d]) * h_n[d] + inflow[d] * B_n
                            h_n[d] = v
                            acc[d] += C_n * v
                    if k == 0:
                        for d in range(channels):
                            out[d] = acc[d] + by[d] * x[d]
                    else:
                        for d in range(channels):
                            out[d] += acc[d]


def suits(u: Tensor) -> bool:
    """Whether there is such a scan of ``u``: nobody wants gradients of it."""
    return u.device.type == "cpu" and u.dtype != torch.float64 and not watched(u)


def projected_scan(
    u: Tensor,
    operands: Tensor,
    weight: Tensor,
    bias: Tensor,
    A: Tensor,
    D: Tensor,
    lines: str = "flat",
) -> Tensor:
    """``ss2d_scan`` whose delta is a projection.

    Args:
        u: (B, H, W, D), as ``suits`` says.
        operands: (B, H, W, 4, R + 2 N), factors of delta, B and C.
        weight: (4, R, D) of factors; delta is their product, before ``bias`` (4, D) and softplus.
        A: (4, D, N), negative; D: (4, D), as there.

    Returns y (B, H, W, D) float32.
    """
    check_lines(lines)
    height, width, channels = u.shape[1:]
    maps = [t.float().flatten(1, 2).contiguous() for t in (u, operands)]
    of_channels = weight, bias, A.transpose(1, 2), D.sum(0)
    inputs = [t.detach().float().contiguous().numpy() for t in (*maps, *of_channels)]
    y = torch.empty_like(maps[0])
    y_array = y.numpy()

    size = height, width, lines == "reset"

    def scan(directions: Range, along: Range, of: Range) -> None:
        _scan(*inputs, y_array, size, directions, along, of)

    over_lines(scan, size, channels, y.numel())
    return y.view(u.shape)
