"""The fixed-point scan by numba: SIMD across channels, one thread for a block of them."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from mambaic_kernels.fixed_point.reference import PER_UNIT, UNIT
from mambaic_kernels.fixed_scan.reference import DECAYS, PER_STATE, STATE, STEPS, by_squares
from mambaic_kernels.scan.cpu import position
from mambaic_kernels.simd import cut, exact_jit, run

BLOCK = 128  # channels of one block at most
SERIAL = 1 << 18  # state updates under which threads cost more than they give
_STATE, _PER_UNIT, _UNIT = np.float32(STATE), np.float32(PER_UNIT), np.float32(UNIT)
_STEPS, _PER_STATE, _LAST = np.float32(STEPS), np.float32(PER_STATE), np.float32(len(DECAYS) - 1)


@exact_jit(nogil=True)
def _scan(u, dt, rates, B, C, decays, y, height, width, reset, d0, d1):  # type: ignore[no-untyped-def]
    """Adds the scan of every direction to y, on channels d0..d1."""
    channels = d1 - d0
    directions, states, _ = rates.shape
    h = np.empty((states, channels), np.float32)
    total = np.empty(channels, np.float32)
    flow = np.empty(channels, np.float32)
    place = np.empty(channels, np.int32)
    decay = np.empty(channels, np.float32)
    for b in range(u.shape[0]):
        for k in range(directions):
            lines = (height if k < 2 else width) if reset else 1
            length = (width if k < 2 else height) if reset else height * width
            for line in range(lines):
                path = (k, line, length, height, width, reset)
                h[:] = np.float32(0)
                for step in range(length):
                    p = position(path, step)
                    x, t, out = u[b, p, d0:d1], dt[b, p, k, d0:d1], y[b, p, d0:d1]
                    for d in range(channels):
                        flow[d] = t[d] * x[d]
                        total[d] = np.float32(0)
                    for n in range(states):
                        B_n, C_n = B[b, p, k, n], C[b, p, k, n]
                        rate, h_n = rates[k, n, d0:d1], h[n]
                        # look-ups in a loop of their own, of which LLVM makes no vectors
                        for d in range(channels):
                            place[d] = np.int32(min(np.rint(t[d] * rate[d] * _STEPS), _LAST))
                        for d in range(channels):
                            decay[d] = decays[np.uint32(place[d])]
                        for d in range(channels):
                            inflow = np.rint(flow[d] * B_n * _PER_STATE)
                            v = np.rint(decay[d] * h_n[d]) + inflow
                            h_n[d] = v
                            total[d] += np.rint(C_n * v)
                    for d in range(channels):
                        out[d] += total[d]


@exact_jit(nogil=True)
def _add_skipped(u, skip, y, d0, d1):  # type: ignore[no-untyped-def]
    """y, in states, to what is on the grid, with the inputs times ``skip``."""
    for b in range(u.shape[0]):
        for p in range(u.shape[1]):
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
            _add_skipped(inputs[0], factors, y_array, first, last)

    updates = dt.numel() * rates.shape[1]
    run(task, cut(u.shape[-1], 1 if updates < SERIAL else torch.get_num_threads(), BLOCK))
    return y.mul_(STATE) if skip is None else y
