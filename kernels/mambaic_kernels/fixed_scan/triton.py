"""CUDA backend of the fixed-point scan: a program per line of a direction and block of channels.

Rounding makes the recurrence sequential, so a program walks its line step by step, states in
registers; lines, directions, channels and the squares of a batch fill the device. Every direction
writes an output of its own, and a second kernel adds them in order.

Equal to the reference bit by bit: nothing is fused (``enable_fp_fusion`` is off), and roundings are
made of additions, so that the interpreter and a GPU compute the same.

Tested on CPU with TRITON_INTERPRET=1.
"""

from __future__ import annotations

from functools import lru_cache, partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from mambaic_kernels.fixed_point.reference import PER_UNIT, UNIT
from mambaic_kernels.fixed_scan.reference import DECAYS, PER_STATE, STATE, STEPS, by_squares
from mambaic_kernels.scan.layout import DIRECTIONS
from mambaic_kernels.scan.operators import watched

BLOCK = 32  # channels of a program: a warp, as there are many lines
MERGED = 1024  # outputs of a program that adds directions
INTEGERS = tl.constexpr(2.0**23)  # from here on float32 holds integers alone
_STEPS, _LAST = tl.constexpr(STEPS), tl.constexpr(len(DECAYS) - 1.0)
_STATE, _PER_STATE = tl.constexpr(STATE), tl.constexpr(PER_STATE)
_PER_UNIT, _UNIT = tl.constexpr(PER_UNIT), tl.constexpr(UNIT)
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
    height, width, span, longest, parts, channels, ub, up, bb, bp, bk,
    K: tl.constexpr, N: tl.constexpr, BD: tl.constexpr, reset: tl.constexpr,
):  # fmt: skip
    """One part of a line of one direction: y (batch, positions, K, channels), in integers."""
    job = tl.program_id(0)  # ((b * K + k) * longest + line) * parts + part
    part = job % parts
    line = (job // parts) % longest
    k = (job // parts // longest) % K
    b = (job // parts // longest // K).to(tl.int64)
    lines = tl.where(k < 2, height, width) if reset else 1
    length = tl.where(k < 2, width, height) if reset else height * width
    begin = part * span
    length = tl.where(line < lines, tl.minimum(span, length - begin), 0)  # of what there is
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    ok = d < channels
    rate = ()
    h = ()
    for n in tl.static_range(N):
        rate += (tl.load(rates + (k * N + n) * channels + d, mask=ok, other=0.0),)
        h += (tl.zeros([BD], tl.float32),)
    for step in range(length):
        s = begin + tl.where(k % 2 == 1, length - 1 - step, step)
        if reset:
            p = tl.where(k < 2, line * width + s, s * width + line).to(tl.int64)
        else:
            p = tl.where(k < 2, s, (s % height) * width + s // height).to(tl.int64)
        at = (b * height * width + p) * K + k
        of_states = b * bb + p * bp + k * bk
        x = tl.load(u + b * ub + p * up + d, mask=ok, other=0.0)
        t = tl.load(dt + at * channels + d, mask=ok, other=0.0)
        flow = t * x
        total = tl.zeros([BD], tl.float32)
        states = ()
        for n in tl.static_range(N):
            place = tl.minimum(_rint(t * rate[n] * _STEPS), _LAST)
            decay = tl.load(decays + place.to(tl.int32), mask=ok, other=0.0)
            inflow = _rint(flow * tl.load(B + of_states + n) * _PER_STATE)
            state = _rint(decay * h[n]) + inflow
            total += _rint(tl.load(C + of_states + n) * state)
            states += (state,)
        h = states
        tl.store(y + at * channels + d, total, mask=ok)


@triton.jit
def _merge_kernel(
    y, u, skip, out, channels, positions, count, ub, up, K: tl.constexpr, SKIP: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """out (rows, channels): y (rows, K, channels) added in order of K, in units."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = at < count
    row, d = at // channels, at % channels
    total = tl.zeros([BLOCK], tl.float32)
    for k in tl.static_range(K):
        total += tl.load(y + (row * K + k) * channels + d, mask=ok, other=0.0)
    found = total * _STATE
    if SKIP:
        own = u + row // positions * ub + row % positions * up + d
        skipped = tl.load(own, mask=ok, other=0.0) * tl.load(skip + d, mask=ok, other=0.0)
        found = _rint(skipped * _PER_UNIT) * _UNIT + _rint(found * _PER_UNIT) * _UNIT
    tl.store(out + at, found, mask=ok)


@lru_cache(maxsize=8)
def _decays(device: torch.device) -> Tensor:
    return torch.from_numpy(DECAYS).to(device)


def _launch(
    u: Tensor, dt: Tensor, rates: Tensor, B: Tensor, C: Tensor, skip: Tensor | None,
    height: int, width: int, reset: bool, span: int,
) -> Tensor:  # fmt: skip
    u, B, C = (t if t.stride(-1) == 1 else t.contiguous() for t in (u, B, C))
    if B.stride() != C.stride():
        B, C = B.contiguous(), C.contiguous()
    dt, rates = dt.contiguous(), rates.contiguous()
    batch, positions, channels = u.shape
    y, out = torch.empty_like(dt), torch.empty(u.shape, dtype=u.dtype, device=u.device)
    if not out.numel():
        return out
    longest = max(height, width) if reset else 1
    if not reset:
        span = positions
    elif not span:
        span = longest
    parts = triton.cdiv(longest, span)
    _scan_kernel[(batch * DIRECTIONS * longest * parts, triton.cdiv(channels, BLOCK))](
        u, dt, rates, B, C, _decays(u.device), y,
        height, width, span, longest, parts, channels, *u.stride()[:2], *B.stride()[:3],
        K=DIRECTIONS, N=rates.shape[1], BD=BLOCK, reset=reset, num_warps=1, **EXACT,
    )  # fmt: skip
    _merge_kernel[(triton.cdiv(out.numel(), MERGED),)](
        y, u, u if skip is None else skip, out, channels, positions, out.numel(), *u.stride()[:2],
        K=DIRECTIONS, SKIP=skip is not None, BLOCK=MERGED, **EXACT,
    )  # fmt: skip
    return out


_operator = torch.library.custom_op("mambaic::fixed_scan", _launch, mutates_args=())


@_operator.register_fake
def _(u, dt, rates, B, C, skip, height, width, reset, span):  # type: ignore[no-untyped-def]
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
    span: int = 0,
    skip: Tensor | None = None,
) -> Tensor:
    """See ``mambaic_kernels.fixed_scan.fixed_scan``."""
    if span and not reset and max(size) > span:
        # sequences of a square are no parts of those of the map
        part = partial(fixed_scan, reset=reset, skip=skip)
        return by_squares(part, u, dt, rates, B, C, size, span)
    y: Tensor = (_operator if watched(u) else _launch)(u, dt, rates, B, C, skip, *size, reset, span)
    return y
