"""CUDA backend of the fixed-point scan: a program per line of a direction and block of channels.

Rounding makes the recurrence sequential, so a program walks its line step by step, states in
registers; lines, directions, channels and the squares of a batch fill the device. Every direction
writes an output of its own, and a second kernel adds them in order.

Equal to the reference bit by bit: nothing is fused (``enable_fp_fusion`` is off), and roundings are
made of additions, so that the interpreter and a GPU compute the same.

Tested on CPU with TRITON_INTERPRET=1.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from mambaic_kernels.fixed_scan.reference import DECAYS, PER_STATE, STATE, STEPS
from mambaic_kernels.scan.layout import DIRECTIONS
from mambaic_kernels.scan.triton import _positions

BLOCK = 32  # channels of a program: a warp, as there are many lines
MERGED = 1024  # outputs of a program that adds directions
INTEGERS = tl.constexpr(2.0**23)  # from here on float32 holds integers alone
_STEPS, _LAST = tl.constexpr(STEPS), tl.constexpr(len(DECAYS) - 1.0)
_STATE, _PER_STATE = tl.constexpr(STATE), tl.constexpr(PER_STATE)
EXACT = {"enable_fp_fusion": False}  # options of compilation


@triton.jit
def _rint(x):
    """The nearest integers, halves to even."""
    size = tl.abs(x)
    whole = (size + INTEGERS) - INTEGERS
    return tl.where(size < INTEGERS, tl.where(x < 0, -whole, whole), x)


@triton.jit
def _scan_kernel(
    u, dt, rates, B, C, decays, y,
    height, width, channels, positions, K: tl.constexpr, N: tl.constexpr, BD: tl.constexpr,
    reset: tl.constexpr,
):  # fmt: skip
    """One line of one direction: y (batch, positions, K, channels), in integers."""
    lines_max = tl.maximum(height, width) if reset else 1
    job = tl.program_id(0)  # (b * K + k) * lines_max + line
    line = job % lines_max
    k = (job // lines_max) % K
    b = (job // lines_max // K).to(tl.int64)
    lines = tl.where(k < 2, height, width) if reset else 1
    length = tl.where(k < 2, width, height) if reset else height * width
    length = tl.where(line < lines, length, 0)  # of lines that do not exist
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    ok = d < channels
    rate = ()
    h = ()
    for n in tl.static_range(N):
        rate += (tl.load(rates + (k * N + n) * channels + d, mask=ok, other=0.0),)
        h += (tl.zeros([BD], tl.float32),)
    for step in range(length):
        p = b * positions + _positions(step, k, line, length, height, width, reset)
        at = p * K + k
        x = tl.load(u + p * channels + d, mask=ok, other=0.0)
        t = tl.load(dt + at * channels + d, mask=ok, other=0.0)
        flow = t * x
        total = tl.zeros([BD], tl.float32)
        states = ()
        for n in tl.static_range(N):
            place = tl.minimum(_rint(t * rate[n] * _STEPS), _LAST)
            decay = tl.load(decays + place.to(tl.int32), mask=ok, other=0.0)
            inflow = _rint(flow * tl.load(B + at * N + n) * _PER_STATE)
            state = _rint(decay * h[n]) + inflow
            total += _rint(tl.load(C + at * N + n) * state)
            states += (state,)
        h = states
        tl.store(y + at * channels + d, total, mask=ok)


@triton.jit
def _merge_kernel(y, out, channels, count, K: tl.constexpr, BLOCK: tl.constexpr):
    """out (rows, channels): y (rows, K, channels) added in order of K, in units."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = at < count
    first = (at // channels) * K * channels + at % channels
    total = tl.zeros([BLOCK], tl.float32)
    for k in tl.static_range(K):
        total += tl.load(y + first + k * channels, mask=ok, other=0.0)
    tl.store(out + at, total * _STATE, mask=ok)


@lru_cache(maxsize=8)
def _decays(device: torch.device) -> Tensor:
    return torch.from_numpy(DECAYS).to(device)


def _launch(
    u: Tensor, dt: Tensor, rates: Tensor, B: Tensor, C: Tensor, height: int, width: int, reset: bool
) -> Tensor:
    u, dt, rates, B, C = (t.contiguous() for t in (u, dt, rates, B, C))
    batch, positions, channels = u.shape
    y, out = torch.empty_like(dt), torch.empty_like(u)
    if not out.numel():
        return out
    lines = max(height, width) if reset else 1
    _scan_kernel[(batch * DIRECTIONS * lines, triton.cdiv(channels, BLOCK))](
        u, dt, rates, B, C, _decays(u.device), y, height, width, channels, positions,
        K=DIRECTIONS, N=rates.shape[1], BD=BLOCK, reset=reset, num_warps=1, **EXACT,
    )  # fmt: skip
    _merge_kernel[(triton.cdiv(out.numel(), MERGED),)](
        y, out, channels, out.numel(), K=DIRECTIONS, BLOCK=MERGED, **EXACT
    )
    return out


_operator = torch.library.custom_op("mambaic::fixed_scan", _launch, mutates_args=())


@_operator.register_fake
def _(
    u: Tensor, dt: Tensor, rates: Tensor, B: Tensor, C: Tensor, height: int, width: int, reset: bool
) -> Tensor:
    return u.new_empty(u.shape)


def fixed_scan(
    u: Tensor,
    dt: Tensor,
    rates: Tensor,
    B: Tensor,
    C: Tensor,
    size: tuple[int, int],
    *,
    reset: bool,
) -> Tensor:
    """See ``mambaic_kernels.fixed_scan.fixed_scan``."""
    y: Tensor = _operator(u, dt, rates, B, C, *size, reset)
    return y
