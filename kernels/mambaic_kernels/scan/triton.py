"""CUDA backend: Triton kernels, parallel over sequences, channel blocks and chunks of a sequence.

A program takes one chunk of one sequence and BD channels, and walks it in tiles of T steps whose
recurrence is an associative scan in registers. Sequences longer than one chunk run in three
passes: every chunk from a zero state, a short serial carry over chunks, every chunk again from its
true state. Backward does the same in reverse and rebuilds the states tile by tile. Directions and
channel blocks write to buffers of their own that are summed after, never by atomics: the walk of
the codec needs the same result every time.

Tested on CPU with TRITON_INTERPRET=1.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 16  # steps of one associative scan
CHUNK = 256  # steps of one program: long maps fill the device, short lines are one chunk


@triton.jit
def _combine(a1, b1, a2, b2):
    """Two steps of h = a * h + b as one."""
    return a1 * a2, a2 * b1 + b2


@triton.jit
def _positions(steps, k, line, length, height, width, reset: tl.constexpr):
    """Flat positions (int64) of steps of a line in direction k; see layout.py."""
    s = tl.where(k % 2 == 1, length - 1 - steps, steps)
    if reset:
        p = tl.where(k < 2, line * width + s, s * width + line)
    else:
        p = tl.where(k < 2, s, (s % height) * width + s // height)
    return p.to(tl.int64)


@triton.jit
def _tile(ptr, rows, ok, columns, stride):
    """(rows, columns) of a row-major matrix, zero where not ``ok``."""
    return tl.load(ptr + rows[:, None] * stride + columns[None, :], mask=ok, other=0.0)


@triton.jit
def _scan_fwd_kernel(
    u, dt, A, B, C, y, start, end, span,
    height, width, channels, chunks, positions, K: tl.constexpr, N: tl.constexpr, NP: tl.constexpr,
    T: tl.constexpr, BD: tl.constexpr, CH: tl.constexpr, reset: tl.constexpr,
    HAS_START: tl.constexpr, WRITE: tl.constexpr,
):  # fmt: skip
    """One chunk forward from ``start`` (or zero): y if WRITE, else the end state and sum of dt."""
    lines_max = tl.maximum(height, width) if reset else 1
    job = tl.program_id(0)  # ((b * K + k) * lines_max + line) * chunks + chunk
    chunk = job % chunks
    line = (job // chunks) % lines_max
    k = (job // chunks // lines_max) % K
    b = (job // chunks // lines_max // K).to(tl.int64)
    lines = tl.where(k < 2, height, width) if reset else 1
    length = tl.where(k < 2, width, height) if reset else height * width
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    n = tl.arange(0, NP)
    # a map's other axis may have fewer lines: programs of lines that do not exist touch nothing
    d_ok = d < tl.where(line < lines, channels, 0)
    state_at = (job.to(tl.int64) * N + n[:, None]) * channels + d[None, :]
    state_ok = (n[:, None] < N) & d_ok[None, :]
    a_log = tl.load(A + (k * N + n[:, None]) * channels + d[None, :], mask=state_ok, other=0.0)
    h = tl.zeros([NP, BD], tl.float32)
    if HAS_START:
        h = tl.load(start + state_at, mask=state_ok, other=0.0)
    total = tl.zeros([BD], tl.float32)
    row = tl.arange(0, T)
    for first in range(chunk * CH, tl.minimum(chunk * CH + CH, length), T):
        steps = first + row
        inside = steps < length
        p = _positions(steps, k, line, length, height, width, reset)
        p = tl.where(inside, p, 0) + b * positions
        ok = inside[:, None] & d_ok[None, :]
        n_ok = inside[:, None] & (n[None, :] < N)
        x = _tile(u, p, ok, d, channels)
        t = _tile(dt, p * K + k, ok, d, channels)
        b_n = _tile(B, p * K + k, n_ok, n, N)
        c_n = _tile(C, p * K + k, n_ok, n, N)
        a = tl.exp(t[:, None, :] * a_log[None, :, :])
        inflow = (t * x)[:, None, :] * b_n[:, :, None]
        decay, fresh = tl.associative_scan((a, inflow), 0, _combine)
        states = decay * h[None, :, :] + fresh
        if WRITE:
            out = tl.sum(states * c_n[:, :, None], axis=1)
            tl.store(y + (p * K + k)[:, None] * channels + d[None, :], out, mask=ok)
        h = tl.sum(tl.where((row == T - 1)[:, None, None], states, 0.0), axis=0)
        total += tl.sum(t, axis=0)
    if not WRITE:
        tl.store(end + state_at, h, mask=state_ok)
        tl.store(span + job.to(tl.int64) * channels + d, total, mask=d_ok)


@triton.jit
def _carry_kernel(
    local, span, A, out, channels, chunks, lines_max, K: tl.constexpr, N: tl.constexpr,
    NP: tl.constexpr, BD: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """What arrives at every chunk of a sequence: out[c] = local[c-1] + exp(A span[c-1]) out[c-1];
    with REVERSE from c + 1 instead of c - 1."""
    sequence = tl.program_id(0).to(tl.int64)  # (b * K + k) * lines_max + line
    k = (sequence // lines_max) % K
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    n = tl.arange(0, NP)
    ok = (n[:, None] < N) & (d[None, :] < channels)
    a_log = tl.load(A + (k * N + n[:, None]) * channels + d[None, :], mask=ok, other=0.0)
    x = tl.zeros([NP, BD], tl.float32)
    for i in range(0, chunks):
        c = chunks - 1 - i if REVERSE else i
        job = sequence * chunks + c
        at = (job * N + n[:, None]) * channels + d[None, :]
        tl.store(out + at, x, mask=ok)
        through = tl.load(span + job * channels + d, mask=d < channels, other=0.0)
        added = tl.load(local + at, mask=ok, other=0.0)
        x = added + tl.exp(through[None, :] * a_log) * x


@triton.jit
def _scan_bwd_kernel(
    u, dt, A, B, C, gy, gu, gdt, gA, gB, gC, start, arriving, leaving, span, tiles,
    height, width, channels, chunks, positions, batch,
    K: tl.constexpr, N: tl.constexpr, NP: tl.constexpr, T: tl.constexpr, BD: tl.constexpr,
    CH: tl.constexpr, reset: tl.constexpr, HAS_CARRY: tl.constexpr, WRITE: tl.constexpr,
):  # fmt: skip
    """One chunk backward. v is the gradient of the state: v_t = C_t gy_t + a_{t+1} v_{t+1}.

    ``arriving`` holds v of the next chunk's first step. Without WRITE only v of this chunk's
    first step (``leaving``) and the sum of the shifted dt (``span``) are made.
    """
    lines_max = tl.maximum(height, width) if reset else 1
    job = tl.program_id(0)
    chunk = job % chunks
    line = (job // chunks) % lines_max
    k = (job // chunks // lines_max) % K
    b = (job // chunks // lines_max // K).to(tl.int64)
    lines = tl.where(k < 2, height, width) if reset else 1
    length = tl.where(k < 2, width, height) if reset else height * width
    block = tl.program_id(1)
    d = block * BD + tl.arange(0, BD)
    n = tl.arange(0, NP)
    # a map's other axis may have fewer lines: programs of lines that do not exist touch nothing
    d_ok = d < tl.where(line < lines, channels, 0)
    state_at = (job.to(tl.int64) * N + n[:, None]) * channels + d[None, :]
    state_ok = (n[:, None] < N) & d_ok[None, :]
    a_log = tl.load(A + (k * N + n[:, None]) * channels + d[None, :], mask=state_ok, other=0.0)
    row = tl.arange(0, T)
    begin = chunk * CH
    stop = tl.minimum(begin + CH, length)
    count = tl.maximum(0, (stop - begin + T - 1) // T)
    tile_at = (job.to(tl.int64) * (CH // T) * N + n[:, None]) * channels + d[None, :]
    if WRITE:
        # the state before every tile of the chunk, rebuilt once
        h = tl.zeros([NP, BD], tl.float32)
        if HAS_CARRY:
            h = tl.load(start + state_at, mask=state_ok, other=0.0)
        for i in range(0, count):
            tl.store(tiles + tile_at + i * N * channels, h, mask=state_ok)
            steps = begin + i * T + row
            inside = steps < length
            p = _positions(steps, k, line, length, height, width, reset)
            p = tl.where(inside, p, 0) + b * positions
            ok = inside[:, None] & d_ok[None, :]
            x = _tile(u, p, ok, d, channels)
            t = _tile(dt, p * K + k, ok, d, channels)
            b_n = _tile(B, p * K + k, inside[:, None] & (n[None, :] < N), n, N)
            a = tl.exp(t[:, None, :] * a_log[None, :, :])
            inflow = (t * x)[:, None, :] * b_n[:, :, None]
            decay, fresh = tl.associative_scan((a, inflow), 0, _combine)
            states = decay * h[None, :, :] + fresh
            h = tl.sum(tl.where((row == T - 1)[:, None, None], states, 0.0), axis=0)
    v_next = tl.zeros([NP, BD], tl.float32)
    if HAS_CARRY:
        v_next = tl.load(arriving + state_at, mask=state_ok, other=0.0)
    total = tl.zeros([BD], tl.float32)
    sum_a = tl.zeros([NP, BD], tl.float32)
    for j in range(0, count):
        i = count - 1 - j
        steps = begin + i * T + row
        inside = steps < stop
        p = _positions(steps, k, line, length, height, width, reset)
        p = tl.where(inside, p, 0) + b * positions
        ok = inside[:, None] & d_ok[None, :]
        n_ok = inside[:, None] & (n[None, :] < tl.where(line < lines, N, 0))
        after = steps + 1 < length
        p_after = _positions(steps + 1, k, line, length, height, width, reset)
        p_after = tl.where(after, p_after, 0) + b * positions
        # beyond the chunk's end (last tile only) nothing may decay what arrives
        t_after = _tile(dt, p_after * K + k, ok & after[:, None], d, channels)
        dy = _tile(gy, p, ok, d, channels)
        c_n = _tile(C, p * K + k, n_ok, n, N)
        a_after = tl.exp(t_after[:, None, :] * a_log[None, :, :])
        source = dy[:, None, :] * c_n[:, :, None]
        decay, fresh = tl.associative_scan((a_after, source), 0, _combine, reverse=True)
        v = decay * v_next[None, :, :] + fresh
        if WRITE:
            x = _tile(u, p, ok, d, channels)
            t = _tile(dt, p * K + k, ok, d, channels)
            b_n = _tile(B, p * K + k, n_ok, n, N)
            h = tl.load(tiles + tile_at + i * N * channels, mask=state_ok, other=0.0)
            a = tl.exp(t[:, None, :] * a_log[None, :, :])
            inflow = (t * x)[:, None, :] * b_n[:, :, None]
            decay, fresh = tl.associative_scan((a, inflow), 0, _combine)
            states = decay * h[None, :, :] + fresh
            v_in = tl.where(inside[:, None, None], v, 0.0)
            by_decay = v_in * (states - inflow)  # a_t h_{t-1} = h_t - inflow
            by_b = tl.sum(v_in * b_n[:, :, None], axis=1)
            at = (p * K + k)[:, None] * channels + d[None, :]
            by_t = tl.sum(by_decay * a_log[None, :, :], axis=1)
            tl.store(gdt + at, by_t + by_b * x, mask=ok)
            tl.store(gu + at, by_b * t, mask=ok)
            sum_a += tl.sum(by_decay * t[:, None, :], axis=0)
            n_at = ((block * batch * positions + p) * K + k)[:, None] * N + n[None, :]
            tl.store(gB + n_at, tl.sum(v_in * (t * x)[:, None, :], axis=2), mask=n_ok)
            tl.store(gC + n_at, tl.sum(states * dy[:, None, :], axis=2), mask=n_ok)
        v_next = tl.sum(tl.where((row == 0)[:, None, None], v, 0.0), axis=0)
        total += tl.sum(t_after, axis=0)
    if WRITE:
        tl.store(gA + state_at, sum_a, mask=state_ok)
    else:
        tl.store(leaving + state_at, v_next, mask=state_ok)
        tl.store(span + job.to(tl.int64) * channels + d, total, mask=d_ok)


class _Plan:
    """Grid and sizes of one call, the same for forward and backward."""

    def __init__(self, u: Tensor, dt: Tensor, A: Tensor, size: tuple[int, int], reset: bool):
        self.height, self.width = size
        self.batch, self.positions, self.channels = u.shape
        self.K, self.N = dt.shape[2], A.shape[1]
        self.NP = max(1, triton.next_power_of_2(self.N))
        self.BD = min(max(16, triton.next_power_of_2(self.channels)), max(16, 128 // self.NP))
        self.lines_max = max(size) if reset else 1
        longest = max(size) if reset else self.positions
        self.chunks = triton.cdiv(longest, CHUNK)
        self.sequences = self.batch * self.K * self.lines_max
        self.jobs = self.sequences * self.chunks
        self.blocks = triton.cdiv(self.channels, self.BD)
        self.sizes = (self.height, self.width, self.channels, self.chunks, self.positions)
        self.constants = {
            "K": self.K, "N": self.N, "NP": self.NP, "BD": self.BD,
        }  # fmt: skip
        self.scan_constants = {**self.constants, "T": TILE, "CH": CHUNK, "reset": reset}

    def states(self, like: Tensor) -> Tensor:
        """Zeroed buffer of one state per chunk; lines that do not exist stay zero."""
        return like.new_zeros(self.jobs, self.N, self.channels)


def _starts(plan: _Plan, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """State before every chunk, (jobs, N, D); empty if there is one chunk per sequence."""
    if plan.chunks == 1:
        return u.new_empty(0)
    end, span = plan.states(u), u.new_zeros(plan.jobs, plan.channels)
    _scan_fwd_kernel[(plan.jobs, plan.blocks)](
        u, dt, A, B, C, u, u, end, span, *plan.sizes,
        **plan.scan_constants, HAS_START=False, WRITE=False,
    )  # fmt: skip
    return _carried(plan, end, span, A, reverse=False)


def _carried(plan: _Plan, local: Tensor, span: Tensor, A: Tensor, *, reverse: bool) -> Tensor:
    out = torch.empty_like(local)
    _carry_kernel[(plan.sequences, plan.blocks)](
        local, span, A, out, plan.channels, plan.chunks, plan.lines_max,
        **plan.constants, REVERSE=reverse,
    )  # fmt: skip
    return out


def scan_forward(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, size: tuple[int, int], reset: bool
) -> Tensor:
    """Same contract as ``mambaic_kernels.scan.cpu.scan_forward``."""
    u, dt, A, B, C = (t.contiguous() for t in (u, dt, A, B, C))
    plan = _Plan(u, dt, A, size, reset)
    start = _starts(plan, u, dt, A, B, C)
    y = torch.empty_like(dt)
    _scan_fwd_kernel[(plan.jobs, plan.blocks)](
        u, dt, A, B, C, y, start, u, u, *plan.sizes,
        **plan.scan_constants, HAS_START=plan.chunks > 1, WRITE=True,
    )  # fmt: skip
    return y.sum(dim=2)


def scan_backward(
    grad: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    size: tuple[int, int],
    reset: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Same contract as ``mambaic_kernels.scan.cpu.scan_backward``."""
    grad, u, dt, A, B, C = (t.contiguous() for t in (grad, u, dt, A, B, C))
    plan = _Plan(u, dt, A, size, reset)
    start = _starts(plan, u, dt, A, B, C)
    gu, gdt, gA = torch.empty_like(dt), torch.empty_like(dt), plan.states(u)
    gB = u.new_empty(plan.blocks, *B.shape)
    gC = u.new_empty(plan.blocks, *C.shape)
    grid = (plan.jobs, plan.blocks)
    arriving = u.new_empty(0)
    if plan.chunks > 1:
        leaving, span = plan.states(u), u.new_zeros(plan.jobs, plan.channels)
        _scan_bwd_kernel[grid](
            u, dt, A, B, C, grad, gu, gdt, gA, gB, gC, start, u, leaving, span, u,
            *plan.sizes, plan.batch, **plan.scan_constants, HAS_CARRY=False, WRITE=False,
        )  # fmt: skip
        arriving = _carried(plan, leaving, span, A, reverse=True)
    tiles = u.new_empty(plan.jobs * (CHUNK // TILE), plan.N, plan.channels)
    _scan_bwd_kernel[grid](
        u, dt, A, B, C, grad, gu, gdt, gA, gB, gC, start, arriving, u, u, tiles,
        *plan.sizes, plan.batch, **plan.scan_constants, HAS_CARRY=plan.chunks > 1, WRITE=True,
    )  # fmt: skip
    gA_sum = gA.view(plan.batch, plan.K, -1, plan.N, plan.channels).sum(dim=(0, 2))
    return gu.sum(dim=2), gdt, gA_sum, gB.sum(0), gC.sum(0)
