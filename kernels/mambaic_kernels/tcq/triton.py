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
BLOCK = 256  # latents of a program that is no path
LARGEST = tl.constexpr(2.0**20)
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


@triton.jit
def _offer(magnitude, row, width, weight, odd, parity):
    """Best symbol of a parity for states that are odd or not, and its cost by the rates at ``row``;
    an even one may be zero. Magnitudes are bounded, also NaN, so that costs are finite and loads
    stay within the row."""
    magnitude = tl.where(magnitude < LARGEST, magnitude, LARGEST)
    symbol = 2.0 * tl.floor(0.5 * (magnitude + 0.5 * odd - parity) + 0.5) + parity
    symbol = tl.maximum(symbol, parity * 1.0)
    error = magnitude - symbol + tl.where(symbol > 0, 0.5 * odd, 0.0)
    place = tl.minimum(symbol.to(tl.int32), width - 1)
    cost = weight * error * error + tl.load(row + place)
    to_zero = weight * magnitude * magnitude + tl.load(row)
    is_zero = (to_zero < cost) & (parity == 0)
    return tl.where(is_zero, 0.0, symbol), tl.where(is_zero, to_zero, cost)


@triton.jit
def _cost_kernel(x, index, rates, costs, count, levels, width, weight, BLOCK: tl.constexpr):
    """``costs`` (count, 4) of the best symbols by 2 * (the state is odd) + parity."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    magnitude = tl.abs(tl.load(x + at, mask=inside, other=0.0))
    level = tl.load(index + at, mask=inside, other=0)
    level = tl.minimum(tl.maximum(level, 0), levels - 1)
    for branch in tl.static_range(4):
        row = rates + ((branch // 2) * levels + level) * width
        _, cost = _offer(magnitude, row, width, weight, branch // 2, branch % 2)
        tl.store(costs + at * 4 + branch, cost, mask=inside)


@triton.jit
def _symbol_kernel(
    x, index, rates, path, symbols, odds, count, levels, width, weight, BLOCK: tl.constexpr
):
    """The symbols that a path chose, with the signs of ``x``, and whether its states are odd."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    target = tl.load(x + at, mask=inside, other=0.0)
    level = tl.load(index + at, mask=inside, other=0)
    level = tl.minimum(tl.maximum(level, 0), levels - 1)
    branch = tl.load(path + at, mask=inside, other=0).to(tl.int32)
    odd = branch >> 1
    row = rates + (odd * levels + level) * width
    symbol, _ = _offer(tl.abs(target), row, width, weight, odd, branch & 1)
    tl.store(symbols + at, tl.where(target < 0, -symbol, symbol).to(tl.int64), mask=inside)
    tl.store(odds + at, odd.to(tl.int64), mask=inside)


@torch.library.custom_op("mambaic::trellis_search", mutates_args=())
def _search(x: Tensor, index: Tensor, rates: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    rows, n = x.shape
    count = rows * n
    x, index, rates = (of.contiguous() for of in (x, index, rates))
    costs = torch.empty(rows, n, 4, device=x.device)
    decisions = torch.empty(rows, n, STATES.value, dtype=torch.int8, device=x.device)
    path = torch.empty(rows, n, dtype=torch.int8, device=x.device)
    symbols, odds = torch.empty_like(index), torch.empty_like(index)
    if count:
        numbers = (count, rates.shape[1], rates.shape[2], weight, BLOCK)
        parts = (triton.cdiv(count, BLOCK),)
        _cost_kernel[parts](x, index, rates, costs, *numbers)
        _path_kernel[(rows, triton.cdiv(n, CHUNK))](costs, decisions, path, n, CHUNK, num_warps=4)
        _symbol_kernel[parts](x, index, rates, path, symbols, odds, *numbers)
    return symbols, odds


@_search.register_fake
def _(x: Tensor, index: Tensor, rates: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(index), torch.empty_like(index)


@torch.no_grad()
def search(x: Tensor, index: Tensor, rates: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Symbols and quantisers (1 where the state is odd) of rows, both (rows, n) int64.

    ``x`` (rows, n) float32 in units of the spacing, ``index`` (rows, n) int64, ``rates`` (2,
    SCALE_COUNT, m) float32 and ``weight`` as in ``tcq.cpu.search``; every CHUNK latents of a row
    begin in state 0."""
    found: tuple[Tensor, Tensor] = _search(x, index, rates, weight)
    return found
