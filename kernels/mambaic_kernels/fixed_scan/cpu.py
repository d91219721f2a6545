"""The fixed-point scan by numba: SIMD across channels, one thread for a block of them."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from mambaic_kernels.fixed_point.reference import PER_UNIT, UNIT
from mambaic_kernels.fixed_point.rows import spread
from mambaic_kernels.fixed_scan.reference import (
    DECAYS,
    PER_STATE,
    STATE,
    STEPS,
    Steps,
    by_squares,
)
from mambaic_kernels.scan.cpu import position
from mambaic_kernels.scan.lines import Range, over_lines
from mambaic_kernels.simd import exact_jit, f32
from mambaic_kernels.threads import cut, run

BLOCK = 128  # channels of one block at most
SERIAL = 1 << 18  # state updates under which threads cost more than they give
_STATE, _PER_UNIT, _UNIT = f32(STATE), f32(PER_UNIT), f32(UNIT)
_STEPS, _PER_STATE, _LAST = f32(STEPS), f32(PER_STATE), f32(len(DECAYS) - 1)


@exact_jit(inline="always")
def _advance(x, t, B, C, rates, decays, h, total, flow, decay, place, out):  # type: ignore[no-untyped-def]
    """Takes the states h (N, D) one step on and adds what they give to ``out``; the four arrays
    before it are scratch."""
    channels = len(x)
    for d in range(channels):
        flow[d] = t[d] * x[d]
        total[d] = f32(0)
    for n in range(len(h)):
        B_n, C_n, rate, h_n = B[n], C[n], rates[n], h[n]
        # look-ups in a loop of their own, of which LLVM makes no vectors
        for d in range(channels):
            place[d] = np.int32(min(_LAST, np.rint(t[d] * rate[d] * _STEPS)))
        for d in range(channels):
            decay[d] = decays[np.uint32(place[d])]
        for d in range(channels):
            v = np.rint(decay[d] * h_n[d]) + np.rint(flow[d] * B_n * _PER_STATE)
            h_n[d] = v
            total[d] += np.rint(C_n * v)
    for d in range(channels):
        out[d] += total[d]


@exact_jit(nogil=True)
def _scan(u, dt, rates, B, C, decays, y, height, width, reset, d0, d1):  # type: ignore[no-untyped-def]
    """Adds the scan of every direction to y, on channels d0..d1."""
    channels = d1 - d0
    directions, states, _ = rates.shape
    h = np.empty((states, channels), np.float32)
    total, flow, decay = np.empty((3, channels), np.float32)
    place = np.empty(channels, np.int32)
    for b in range(u.shape[0]):
        for k in range(directions):
            lines = (height if k < 2 else width) if reset else 1
            length = (width if k < 2 else height) if reset else height * width
            for line in range(lines):
                path = (k, line, length, height, width, reset)
                h[:] = f32(0)
                for step in range(length):
                    p = position(path, step)
                    x, t, out = u[b, p, d0:d1], dt[b, p, k, d0:d1], y[b, p, d0:d1]
                    _advance(
                        x, t, B[b, p, k], C[b, p, k], rates[k, :, d0:d1], decays,
                        h, total, flow, decay, place, out,
                    )  # fmt: skip


@exact_jit(nogil=True)
def _projected(u, operands, weight, multiplier, bias, table, levels, rates, decays, y, size, span, directions, lines, of):  # type: ignore[no-untyped-def] # fmt: skip # noqa: E501
    """As ``_scan``, of some directions, lines and channels, states starting anew after ``span``
    positions of a line; the time steps are made here."""
    per_step, most, per_unit = levels
    (height, width, reset), (d0, d1) = size, of
    rank, states, channels = weight.shape[1], rates.shape[1], d1 - d0
    end = f32(len(table) - 1)
    h = np.empty((states, channels), np.float32)
    t, total, flow, decay = np.empty((4, channels), np.float32)
    place = np.empty(channels, np.int32)
    for b in range(u.shape[0]):
        for k in range(directions[0], directions[1]):
            length = (width if k < 2 else height) if reset else height * width
            scale, shift, rates_k = multiplier[k, d0:d1], bias[k, d0:d1], rates[k, :, d0:d1]
            for line in range(lines[0], lines[1]):
                path = (k, line, length, height, width, reset)
                for step in range(length):
                    at = length - step if k % 2 else step  # where squares begin, seen from here
                    if step == 0 or at % span == 0:
                        h[:] = f32(0)
                    p = position(path, step)
                    x, own, out = u[b, p, d0:d1], operands[b, p, k], y[b, p, d0:d1]
                    for d in range(channels):
                        t[d] = f32(0)
                    for r in range(rank):
                        level = min(max(np.rint(own[r] * per_step), -most), most)
                        w = weight[k, r, d0:d1]
                        for d in range(channels):
                            t[d] += level * w[d]
                    for d in range(channels):
                        t[d] = np.rint(t[d] * scale[d]) * _UNIT + shift[d]
                        place[d] = np.int32(min(end, np.rint(abs(t[d]) * per_unit)))
                    for d in range(channels):
                        decay[d] = table[np.uint32(place[d])]
                    for d in range(channels):
                        t[d] = max(t[d], f32(0)) + decay[d]
                    B, C = own[rank : rank + states], own[rank + states :]
                    _advance(x, t, B, C, rates_k, decays, h, total, flow, decay, place, out)


@exact_jit(nogil=True)
def _add_skipped(u, skip, y, p0, p1, d0, d1):  # type: ignore[no-untyped-def]
    """y, in states, to what is on the grid, with the inputs times ``skip``: of some positions and
    channels."""
    for b in range(u.shape[0]):
        for p in range(p0, p1):
            for d in range(d0, d1):
                skipped = np.rint(u[b, p, d] * skip[d] * _PER_UNIT) * _UNIT
                y[b, p, d] = skipped + np.rint(y[b, p, d] * _STATE * _PER_UNIT) * _UNIT


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
    if span and max(size) > span:
        part = partial(fixed_scan, reset=reset, skip=skip)
        return by_squares(part, u, dt, rates, B, C, size, span)
    inputs = [t.contiguous().numpy() for t in (u, dt, rates, B, C)]
    y = torch.zeros_like(u, memory_format=torch.contiguous_format)
    y_array, factors = y.numpy(), None if skip is None else skip.contiguous().numpy()

    def task(index: int, first: int, last: int) -> None:
        _scan(*inputs, DECAYS, y_array, *size, reset, first, last)
        if factors is not None:
            _add_skipped(inputs[0], factors, y_array, 0, u.shape[1], first, last)

    updates = dt.numel() * rates.shape[1]
    run(task, cut(u.shape[-1], 1 if updates < SERIAL else torch.get_num_threads(), BLOCK))
    return y.mul_(STATE) if skip is None else y


def projected_scan(
    u: Tensor,
    operands: Tensor,
    steps: Steps,
    rates: Tensor,
    *,
    reset: bool,
    span: int,
    skip: Tensor,
) -> Tensor:
    """See ``mambaic_kernels.fixed_scan.projected_scan``."""
    height, width, channels = u.shape[1:]
    maps = [t.flatten(1, 2).contiguous().numpy() for t in (u, operands)]
    of_channels = [t.contiguous().numpy() for t in (*steps[:3], steps.act.table)]
    levels = tuple(map(f32, (*steps.levels, steps.act.per_unit)))
    y = torch.zeros(u.shape, dtype=torch.float32)
    y_array, factors = y.flatten(1, 2).numpy(), skip.contiguous().numpy()
    beside = rates.contiguous().numpy(), DECAYS, y_array
    size = height, width, reset
    longest = span or height * width

    def scan(directions: Range, along: Range, of: Range) -> None:
        _projected(*maps, *of_channels, levels, *beside, size, longest, directions, along, of)

    over_lines(scan, size, channels, y.numel())
    spread(
        lambda a, b: _add_skipped(maps[0], factors, y_array, a, b, 0, channels),
        height * width,
        channels,
    )
    return y
