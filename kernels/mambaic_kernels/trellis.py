"""Trellis-coded quantisation: the path of states, and the search for the best one.

A trellis of 256 states; each offers one of two scalar quantisers, and the parity of the symbol that
is chosen decides the state of the next latent. Values in units of a quantiser's spacing:

    even states: 0, +-1, +-2, ...           the integers
    odd states:  0, +-1/2, +-3/2, ...       symbol k stands for sign(k) (|k| - 1/2)

[Marcellin1990] Trellis coded quantization of memoryless and Gauss-Markov sources; the code is
[Ungerboeck1982] Channel coding with multilevel/phase signals, Table I; zero in both quantisers as
in [Schwarz2019] Hybrid video coding with trellis-coded quantization, DCC.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mambaic_kernels.simd import LANES, f32, jit

BITS = 8
STATES = 1 << BITS
HALF = STATES // 2
# parity checks 515 and 362 (octal) without their lowest bit: what an odd state and an odd symbol
# add to the state, shifted by one, that follows
FEEDBACK, INPUT = 0o515 >> 1, 0o362 >> 1
FAR = f32(1e30)
RELATE = 256
BLOCKS = STATES // LANES
VECTOR = ir.VectorType(ir.FloatType(), LANES)
INDICES = ir.VectorType(ir.IntType(32), LANES)


@jit(inline="always")
def after(state, symbol):  # type: ignore[no-untyped-def]
    """State that follows a state and its symbol."""
    return (state >> 1) ^ ((state & 1) * FEEDBACK) ^ ((symbol & 1) * INPUT)


@jit()
def _follow(symbols, odd):  # type: ignore[no-untyped-def]
    state = 0
    for i in range(len(symbols)):
        odd[i] = state & 1
        state = after(state, symbols[i])


def follow(symbols: np.ndarray) -> np.ndarray:
    """Which quantiser each of the symbols (n,) int32 is of, 0 even and 1 odd, from state 0 on."""
    odd = np.empty(len(symbols), dtype=np.int64)
    _follow(symbols, odd)
    return odd


@jit(inline="always")
def _nearest(magnitude, odd, parity):  # type: ignore[no-untyped-def]
    """Symbol of a parity whose value is nearest to a magnitude."""
    half = 0.5 * (magnitude + 0.5 * odd - parity)
    return max(2 * np.int64(np.floor(half + 0.5)) + parity, parity)


@jit(inline="always")
def _choose(magnitude, odd, parity, prices, weight):  # type: ignore[no-untyped-def]
    """Best symbol of a parity, the nearest or 0, and its cost in bits."""
    last = len(prices) - 1
    symbol = _nearest(magnitude, odd, parity)
    error = magnitude - symbol + (0.5 * odd if symbol else 0.0)
    cost = f32(weight * error * error) + prices[min(symbol, last)]
    if symbol and not parity:
        to_zero = f32(weight * magnitude * magnitude) + prices[0]
        if to_zero < cost:
            return np.int64(0), to_zero
    return symbol, cost


def _exchanged(builder: ir.IRBuilder, vectors: list[Any], flip: int) -> list[Any]:
    """Where entry m of the whole was, its entry m ^ flip."""
    lanes = ir.Constant(INDICES, [lane ^ (flip % LANES) for lane in range(LANES)])
    blocks = [vectors[block ^ (flip // LANES)] for block in range(len(vectors))]
    return [builder.shuffle_vector(block, block, lanes) for block in blocks]


@intrinsic
def _advance(typingctx, costs, decisions, even0, even1, odd0, odd1):  # type: ignore[no-untyped-def]
    """One latent of the Viterbi algorithm, on addresses: ``costs`` of all even states, then of all
    odd ones, become those after it; ``decisions`` receives one bit for every state, the parity on
    the best path to it. Written as vectors, as LLVM does not make them of a loop.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], VECTOR.as_pointer())
        flags = builder.inttoptr(arguments[1], ir.IntType(LANES).as_pointer())
        first = ir.Constant(INDICES, [0] * LANES)
        undefined = ir.Constant(VECTOR, ir.Undefined)
        zero = ir.Constant(ir.IntType(32), 0)
        branches = [
            builder.shuffle_vector(builder.insert_element(undefined, x, zero), undefined, first)
            for x in arguments[2:]
        ]
        places = [builder.gep(pointer, [ir.Constant(ir.IntType(32), i)]) for i in range(BLOCKS)]
        old = [builder.load(place, align=4) for place in places]
        # both paths to a state come from states of one parity, its highest bit
        even, odd = old[: BLOCKS // 2], _exchanged(builder, old[BLOCKS // 2 :], FEEDBACK ^ HALF)
        zeros = [builder.fadd(x, branches[0]) for x in even]
        zeros += [builder.fadd(x, branches[2]) for x in odd]
        ones = [builder.fadd(x, branches[1]) for x in _exchanged(builder, even, INPUT)]
        ones += [builder.fadd(x, branches[3]) for x in _exchanged(builder, odd, INPUT)]
        new = []
        for block, (a, b) in enumerate(zip(zeros, ones, strict=True)):
            less = builder.fcmp_ordered("<", b, a)
            new.append(builder.select(less, b, a))
            flag = builder.gep(flags, [ir.Constant(ir.IntType(32), block)])
            builder.store(builder.bitcast(less, ir.IntType(LANES)), flag, align=1)
        for block, place in enumerate(places):  # states are even and odd in turn
            parity, pair = divmod(block, BLOCKS // 2)
            lanes = ir.Constant(INDICES, [2 * lane + parity for lane in range(LANES)])
            half = builder.shuffle_vector(new[2 * pair], new[2 * pair + 1], lanes)
            builder.store(half, place, align=4)
        return context.get_dummy_value()

    address, cost = types.uintp, types.float32
    return types.void(address, address, cost, cost, cost, cost), codegen


@jit(nogil=True)
def _search(x, level, prices, weight, symbols, decisions):  # type: ignore[no-untyped-def]
    costs = np.full(STATES, FAR)
    costs[0] = f32(0.0)
    address, flags = costs.ctypes.data, decisions.ctypes.data
    for i in range(len(x)):
        magnitude = abs(x[i])
        _, even0 = _choose(magnitude, 0, 0, prices[0, level[i]], weight)
        _, even1 = _choose(magnitude, 0, 1, prices[0, level[i]], weight)
        _, odd0 = _choose(magnitude, 1, 0, prices[1, level[i]], weight)
        _, odd1 = _choose(magnitude, 1, 1, prices[1, level[i]], weight)
        if not i % RELATE:  # to the best so far, so that single precision is enough
            costs -= costs.min()
        _advance(address, flags, even0, even1, odd0, odd1)  # type: ignore[call-arg]
        flags += np.uintp(STATES // 8)
    best, state = FAR, np.int64(0)
    for n in range(STATES):
        cost = costs[(n & 1) * HALF + (n >> 1)]
        if cost < best:
            best, state = cost, np.int64(n)
    for i in range(len(x) - 1, -1, -1):
        p = np.int64(decisions[i, state >> 3] >> (state & 7)) & 1
        z = state >> (BITS - 1)
        symbol, _ = _choose(abs(x[i]), z, p, prices[z, level[i]], weight)
        symbols[i] = symbol if x[i] >= 0 else -symbol
        state = (((state ^ (z * FEEDBACK) ^ (p * INPUT)) << 1) & (STATES - 1)) | z


def search(x: np.ndarray, level: np.ndarray, prices: np.ndarray, weight: float) -> np.ndarray:
    """Symbols (n,) int32 of the path from state 0 on with the least

        weight * squared error + bits

    of ``x`` (n,) float64 in units of the spacing. ``prices`` (2, levels, m) float32: bits of a
    symbol of a magnitude (the last price is that of all larger ones) in an even and an odd state,
    at the ``level`` (n,) int64 of its latent.
    """
    symbols = np.empty(len(x), dtype=np.int32)
    decisions = np.empty((len(x), STATES // 8), dtype=np.uint8)
    _search(x, level, prices, weight, symbols, decisions)
    return symbols
