"""CUDA backend of the TCQ search: a program per chunk of a sequence.

For training alone: chunks that each begin in state 0 fill a GPU, where a file has one path for the
whole of a step. The cost of a chunk's start is spread over CHUNK latents. There are 256 states
here, not a file's 4,096: weights trained with them gain all that more states give.

Tested on CPU with TRITON_INTERPRET=1.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK = 512
BITS, STATES = tl.constexpr(8), tl.constexpr(256)
# parity checks 433 and 262 (octal), as in ``mambaic_kernels.tcq.cpu``
FEEDBACK, INPUT = tl.constexpr(0o433 >> 1), tl.constexpr(0o262 >> 1)


@triton.jit
def _before(state, odd, parity):
    """State from which a symbol of a parity led to ``state``, odd if that one was."""
    return (((state ^ (odd * FEEDBACK) ^ (parity * INPUT)) << 1) & (STATES - 1)) | odd


@triton.jit
def _path_kernel(costs, decisions, path, n, CH: tl.constexpr):
    """Viterbi algorithm over a chunk of ``costs`` (rows, n, 4); ``decisions`` (rows, n, STATES) is
    scratch; ``path`` (rows, n) receives 2 * (the state was odd) + parity."""
    first = tl.program_id(1) * CH
    count = tl.minimum(n - first, CH)
    start = tl.program_id(0).to(tl.int64) * n + first
    state = tl.arange(0, STATES)
    odd = state >> (BITS - 1)
    zero, one = _before(state, odd, 0), _before(state, odd, 1)
    total = tl.where(state == 0, 0.0, 1e30)
    for i in range(count):
        branch = costs + (start + i) * 4 + 2 * odd
        with_zero = tl.gather(total, zero, 0) + tl.load(branch)
        with_one = tl.gather(total, one, 0) + tl.load(branch + 1)
        chosen = with_one < with_zero
        total = tl.where(chosen, with_one, with_zero)
        tl.store(decisions + (start + i) * STATES + state, chosen.to(tl.int8))
    tl.debug_barrier()  # what other threads have stored is read from here on
    at = tl.argmin(total, 0)
    for i in range(count):
        latent = start + count - 1 - i
        parity = tl.load(decisions + latent * STATES + at).to(tl.int32)
        was_odd = at >> (BITS - 1)
        tl.store(path + latent, (2 * was_odd + parity).to(tl.int8))
        at = _before(at, was_odd, parity)


@torch.library.custom_op("mambaic::trellis_path", mutates_args=())
def _path(costs: Tensor) -> Tensor:
    rows, n, _ = costs.shape
    decisions = torch.empty(rows, n, STATES.value, dtype=torch.int8, device=costs.device)
    path = torch.empty(rows, n, dtype=torch.int8, device=costs.device)
    grid = (rows, triton.cdiv(n, CHUNK))
    _path_kernel[grid](costs.contiguous(), decisions, path, n, CHUNK, num_warps=4)
    return path


@_path.register_fake
def _(costs: Tensor) -> Tensor:
    return costs.new_empty(costs.shape[:2], dtype=torch.int8)


@torch.no_grad()
def search(x: Tensor, index: Tensor, rates: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Symbols and quantisers (1 where the state is odd) of rows, both (rows, n) int64.

    ``x`` (rows, n) float32 in units of the spacing, ``index`` (rows, n) int64, ``rates`` (2,
    SCALE_COUNT, m) float32 and ``weight`` as in ``tcq.cpu.search``; every CHUNK latents of a row
    begin in state 0."""
    magnitude = x.abs()
    last = rates.shape[-1] - 1
    candidates, costs = [], []
    for odd in (0, 1):
        for parity in (0, 1):
            half = 0.5 * (magnitude + 0.5 * odd - parity)
            symbol = (2 * torch.floor(half + 0.5) + parity).clamp(min=parity)
            error = magnitude - symbol + 0.5 * odd * (symbol > 0)
            cost = weight * error**2 + rates[odd, index, symbol.long().clamp(max=last)]
            if not parity:
                to_zero = weight * magnitude**2 + rates[odd, index, 0]
                symbol = torch.where(to_zero < cost, 0.0, symbol)
                cost = torch.minimum(to_zero, cost)
            candidates.append(symbol)
            costs.append(cost)
    path = _path(torch.stack(costs, dim=-1)).long()
    symbols = torch.stack(candidates, dim=-1).gather(-1, path[..., None])[..., 0]
    return (symbols * x.sign()).long(), path >> 1
