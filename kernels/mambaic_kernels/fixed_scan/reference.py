"""The definition of the fixed-point scan: plain torch, one position after the other.

The recurrence of ``scan.reference`` in integers held in float32, states in units of STATE:
    h = round(decay * h) + round(dt * u * B / STATE);  y = STATE * sum of round(C * h) over states
``decay`` is a table's value. Halves are rounded to even; every product is one IEEE operation, from
left to right; states are summed in order, then directions in order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mambaic_kernels.fixed_point.activation import Activation
from mambaic_kernels.fixed_point.reference import to_grid
from mambaic_kernels.scan.layout import DIRECTIONS, from_sequence, to_sequence

STATE = 2.0**-14
PER_STATE = 2.0**14
STEPS = 256.0  # of the decay table for every unit of its argument
# exp(-i / STEPS) in 15 bits, up to where it is 0
DECAYS = (np.rint(np.exp(-np.arange(2900) / STEPS) * 2.0**15) / 2.0**15).astype(np.float32)
assert DECAYS[-1] == 0


class Steps(NamedTuple):
    """How time steps are made of their factors, as ``mambaic_kernels.fixed_product.directed`` does:
    weight (4, R, D), multiplier and bias (4, D), levels and activation."""

    weight: Tensor
    multiplier: Tensor
    bias: Tensor
    levels: tuple[float, float]
    act: Activation


def fixed_scan(
    u: Tensor,
    dt: Tensor,
    rates: Tensor,
    B: Tensor,
    C: Tensor,
    size: tuple[int, int],
    *,
    reset: bool,
    span: int = 0,
    skip: Tensor | None = None,
) -> Tensor:
    """See ``mambaic_kernels.fixed_scan.fixed_scan``."""
    if skip is not None:
        y = fixed_scan(u, dt, rates, B, C, size, reset=reset, span=span)
        return to_grid(u * skip) + to_grid(y)
    if span and max(size) > span:
        return by_squares(partial(fixed_scan, reset=reset), u, dt, rates, B, C, size, span)
    lines, shape = "reset" if reset else "flat", (len(u), *size)
    decays = torch.from_numpy(DECAYS).to(u.device)
    total = torch.zeros_like(u)
    maps = [t.unflatten(1, size) for t in (u, dt, B, C)]
    for k in range(DIRECTIONS):
        u_k = to_sequence(maps[0], k, lines)
        dt_k, B_k, C_k = (to_sequence(t[..., k, :], k, lines) for t in maps[1:])
        h = [torch.zeros_like(u_k[:, 0]) for _ in range(rates.shape[1])]
        rows = []
        for step in range(u_k.shape[1]):
            t, flow = dt_k[:, step], dt_k[:, step] * u_k[:, step]
            y = torch.zeros_like(flow)
            for n, state in enumerate(h):
                place = (t * rates[k, n] * STEPS).round().clamp(max=len(DECAYS) - 1.0)
                inflow = (flow * B_k[:, step, n, None] * PER_STATE).round()
                h[n] = (decays[place.int()] * state).round() + inflow
                y = y + (C_k[:, step, n, None] * h[n]).round()
            rows.append(y)
        total = total + from_sequence(torch.stack(rows, dim=1), k, lines, shape).flatten(1, 2)
    return total * STATE


def by_squares(
    scan: Callable[..., Tensor],
    u: Tensor,
    dt: Tensor,
    rates: Tensor,
    B: Tensor,
    C: Tensor,
    size: tuple[int, int],
    span: int,
) -> Tensor:
    """``scan`` of every square of a side of ``span``, and of what is left at the borders."""
    maps = [t.unflatten(1, size) for t in (u, dt, B, C)]
    out = torch.empty_like(maps[0])
    for top in range(0, size[0], span):
        for left in range(0, size[1], span):
            where = slice(None), slice(top, top + span), slice(left, left + span)
            height, width = out[where].shape[1:3]
            x, t, b, c = (of[where].flatten(1, 2) for of in maps)
            out[where] = scan(x, t, rates, b, c, (height, width)).view_as(out[where])
    return out.flatten(1, 2)
