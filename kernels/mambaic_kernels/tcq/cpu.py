"""Trellis-coded quantisation (TCQ): the path of states, and the search for the best one.

Each of 4,096 states offers one of two scalar quantisers, and the parity of the chosen symbol
decides the state of the next latent. Probabilities depend on the state beyond its quantiser, first
of all on the one that an even symbol leads to, so rates are given by class, the lowest bits of a
state. Values in units of a quantiser's spacing:

    even states: 0, +-1, +-2, ...           the integers
    odd states:  0, +-1/2, +-3/2, ...       symbol k stands for sign(k) (|k| - 1/2)

[Marcellin1990] Trellis coded quantization of memoryless and Gauss-Markov sources; codes of the
form of [Ungerboeck1982] Channel coding with multilevel/phase signals, whose parity checks were
chosen on latents of photographs (docs/design/quantisation.md); zero in both quantisers as in
[Schwarz2019] Hybrid video coding with trellis-coded quantization, DCC.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mambaic_kernels.simd import f32, jit
from mambaic_kernels.threads import run

BITS = 12
STATES = 1 << BITS
HALF = STATES // 2
CLASSES = 8  # a state's class are its lowest bits
# parity checks 17751 and 5436 (octal) without their lowest bit: what an odd state and an odd symbol
# add to the state, shifted by one, that follows
CODE = FEEDBACK, INPUT = 0o17751 >> 1, 0o5436 >> 1
# Costs are bytes: a vector holds four times as many of them as of floats. An error of one spacing
# with the rarest symbol costs LARGEST, the most at which no path worth taking saturates at MOST.
LANES = 32
LARGEST = 142.0
MOST = 255
RELATE = 4  # latents after which the least cost is brought back to 0
# latents of a window at most, and how many more are looked at on both sides of it: over such a
# distance nearly all paths worth taking become one (half of it costs 0.01 % of the bits)
WINDOW, OVERLAP = 1 << 12, 512
ANY = -1  # state to begin with
HALF_BLOCKS = HALF // LANES
VECTOR = ir.VectorType(ir.IntType(8), LANES)
INDICES = ir.VectorType(ir.IntType(32), LANES)


@jit(inline="always")
def after(state, symbol, code):  # type: ignore[no-untyped-def]
    """State that follows a state and its symbol. ``code`` is CODE, given and not known: numba keeps
    compiled functions of other files when this one changes."""
    return (state >> 1) ^ ((state & 1) * code[0]) ^ ((symbol & 1) * code[1])


@jit()
def _follow(symbols, state, code, classes):  # type: ignore[no-untyped-def]
    for i in range(len(symbols)):
        classes[i] = state & (CLASSES - 1)
        state = after(state, symbols[i], code)
    return state


def follow(symbols: np.ndarray, state: int = 0) -> tuple[np.ndarray, int]:
    """Classes (n,) int64 of the states that the symbols (n,) int32 are chosen in, from ``state``
    on (odd ones are those of the odd quantiser), and the state after them."""
    classes = np.empty(len(symbols), dtype=np.int64)
    return classes, int(_follow(symbols, state, CODE, classes))


@jit(inline="always")
def _nearest(magnitude, odd, parity):  # type: ignore[no-untyped-def]
    """Symbol of a parity whose value is nearest to a magnitude."""
    half = 0.5 * (magnitude + 0.5 * odd - parity)
    return max(2 * np.int64(np.floor(half + 0.5)) + parity, parity)


@jit(inline="always")
def _choose(magnitude, odd, parity, rates, weight):  # type: ignore[no-untyped-def]
    """Best symbol of a parity, the nearest or 0, and its cost in bits."""
    last = len(rates) - 1
    symbol = _nearest(magnitude, odd, parity)
    error = magnitude - symbol + (0.5 * odd if symbol else 0.0)
    cost = f32(weight * error * error) + rates[min(symbol, last)]
    if symbol and not parity:
        to_zero = f32(weight * magnitude * magnitude) + rates[0]
        if to_zero < cost:
            return np.int64(0), to_zero
    return symbol, cost


def _half_step(odd: int) -> Any:
    """The part of a step of the Viterbi algorithm for the states that come from even, or odd, ones,
    which all have 0, or 1, as their highest bit. Written as vectors, as LLVM does not make them of
    a loop.

    The function made updates the ``pair``-th 2 * LANES of them. It takes addresses: costs before,
    of all even states, then of all odd ones; costs after, in the same order; and where one bit for
    every state goes, the parity on the best path to it. Last where what the best symbol of each
    parity costs in LANES such states one after the other is, as classes take turns.
    """
    flips = [odd * (FEEDBACK ^ HALF) ^ parity * INPUT for parity in (0, 1)]

    @intrinsic
    def half_step(typingctx, pair, before, after, decisions, branches):  # type: ignore[no-untyped-def]
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            def number(value: int) -> ir.Constant:
                return ir.Constant(ir.IntType(64), value)

            def place(base: Any, block: Any) -> Any:
                return builder.gep(base, [block])

            def shuffled(a: Any, b: Any, lanes: list[int]) -> Any:
                return builder.shuffle_vector(a, b, ir.Constant(INDICES, lanes))

            pair, *addresses = arguments
            source, target, branch = (
                builder.inttoptr(addresses[i], VECTOR.as_pointer()) for i in (0, 1, 3)
            )
            flags = builder.inttoptr(addresses[2], ir.IntType(LANES).as_pointer())
            branches = [builder.load(place(branch, number(i)), align=1) for i in (0, 1)]
            add = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(VECTOR, [VECTOR, VECTOR]),
                f"llvm.uadd.sat.v{LANES}i8",
            )
            best = []
            for block in (0, 1):
                at = builder.add(builder.mul(pair, number(2)), number(block))
                costs = []
                for flip, branch in zip(flips, branches, strict=True):  # where entry m ^ flip is
                    origin = builder.xor(at, number(flip // LANES))
                    origin = builder.add(origin, number(odd * HALF_BLOCKS))
                    vector = builder.call(
                        add, [builder.load(place(source, origin), align=1), branch]
                    )
                    lanes = [lane ^ (flip % LANES) for lane in range(LANES)]
                    costs.append(shuffled(vector, vector, lanes))
                less = builder.icmp_unsigned("<", costs[1], costs[0])
                best.append(builder.select(less, costs[1], costs[0]))
                flag = place(flags, builder.add(at, number(odd * HALF_BLOCKS)))
                builder.store(builder.bitcast(less, ir.IntType(LANES)), flag, align=1)
            for parity in (0, 1):  # states are even and odd in turn
                half = shuffled(best[0], best[1], [2 * lane + parity for lane in range(LANES)])
                first = parity * HALF_BLOCKS + odd * HALF_BLOCKS // 2
                at = builder.add(pair, number(first))
                builder.store(half, place(target, at), align=1)
            return context.get_dummy_value()

        address = types.uintp
        return types.void(types.int64, address, address, address, address), codegen

    return half_step


_from_even, _from_odd = _half_step(0), _half_step(1)


@jit(inline="always")
def _relate(costs):  # type: ignore[no-untyped-def]
    """Subtract what all costs have in common."""
    least = np.uint8(MOST)
    for n in range(STATES):
        least = min(least, costs[n])
    for n in range(STATES):
        costs[n] = np.uint8(costs[n] - least)


@jit(inline="always")
def _price(magnitude, rates, weight, costs):  # type: ignore[no-untyped-def]
    """Costs in bits of the best symbols of a magnitude, by quantiser, parity and class."""
    mask, last = len(rates) - 1, rates.shape[1] - 1
    zero = f32(weight * magnitude * magnitude)
    for odd in range(2):
        for parity in range(2):
            symbol = _nearest(magnitude, odd, parity)
            error = magnitude - symbol + (0.5 * odd if symbol else 0.0)
            of_error, at = f32(weight * error * error), min(symbol, last)
            for pair in range(CLASSES // 2):
                row = rates[(2 * pair + odd) & mask]
                cost = of_error + row[at]
                costs[odd, parity, pair] = cost if parity else min(cost, zero + row[0])


@jit(inline="always")
def _round(costs, scale, branches):  # type: ignore[no-untyped-def]
    """Costs as bytes, less what all of them have in common, which decides nothing; those of the
    classes of a quantiser in turn."""
    least = costs[0, 0, 0]
    for odd in range(2):
        for parity in range(2):
            for pair in range(CLASSES // 2):
                least = min(least, costs[odd, parity, pair])
    for odd in range(2):
        for parity in range(2):
            word = np.uint32(0)
            for pair in range(CLASSES // 2):
                cost = min(scale * (costs[odd, parity, pair] - least) + f32(0.5), f32(MOST))
                word |= np.uint32(np.int32(cost)) << np.uint32(8 * pair)
            for lane in range(LANES // 4):
                branches[odd, parity, lane] = word


@jit(nogil=True)
def _search(x, index, rates, weight, scale, state, mark, symbols, decisions):  # type: ignore[no-untyped-def]
    """From ``state`` on, which may be ANY; returns the state before latent ``mark``. A bit costs
    ``scale``."""
    mask = len(rates) - 1
    costs = np.full((2, STATES), MOST, dtype=np.uint8)  # before and after a latent, in turn
    if state == ANY:
        costs[0] = 0
    else:
        costs[0, (state & 1) * HALF + (state >> 1)] = 0
    before, after = costs[0].ctypes.data, costs[1].ctypes.data
    flags = decisions.ctypes.data
    branches = np.empty((2, 2, LANES // 4), dtype=np.uint32)  # bytes of the 4 classes, in turn
    exact = np.empty((2, 2, CLASSES // 2), dtype=f32)
    of_even, of_odd = branches[0].ctypes.data, branches[1].ctypes.data
    for i in range(len(x)):
        _price(abs(x[i]), rates[:, index[i]], weight, exact)
        _round(exact, scale, branches)
        if not i % RELATE:
            _relate(costs[i & 1])
        for pair in range(HALF_BLOCKS // 2):
            _from_even(pair, before, after, flags, of_even)
        for pair in range(HALF_BLOCKS // 2):
            _from_odd(pair, before, after, flags, of_odd)
        before, after = after, before
        flags += np.uintp(STATES // 8)
    best, state, marked = MOST + 1, np.int64(0), np.int64(0)
    for n in range(STATES):
        cost = costs[len(x) & 1, (n & 1) * HALF + (n >> 1)]
        if cost < best:
            best, state = cost, np.int64(n)
    for i in range(len(x) - 1, -1, -1):
        p = np.int64(decisions[i, state >> 3] >> (state & 7)) & 1
        z = state >> (BITS - 1)
        state = (((state ^ (z * FEEDBACK) ^ (p * INPUT)) << 1) & (STATES - 1)) | z
        symbol, _ = _choose(abs(x[i]), z, p, rates[state & mask, index[i]], weight)
        symbols[i] = symbol if x[i] >= 0 else -symbol
        if i == mark:
            marked = state
    return marked


# latents, scale indices, rates, the weight of errors, and the cost of a bit
Operands = tuple[np.ndarray, np.ndarray, np.ndarray, float, np.float32]


def search(
    x: np.ndarray,
    index: np.ndarray,
    rates: np.ndarray,
    weight: float,
    state: int = 0,
    *,
    threads: int = 1,
) -> np.ndarray:
    """Symbols (n,) int32 of the path from ``state`` on with the least

        weight * squared error + bits

    of ``x`` (n,) float64 in units of the spacing. ``rates`` (CLASSES, SCALE_COUNT, m) float32:
    bits of a magnitude (the last is that of all larger ones) in a state of each class, at the scale
    ``index`` (n,) int64 of its latent; or (2, SCALE_COUNT, m) by the lowest bit of the state alone.
    Memory is bounded: see ``WINDOW``; so many ``threads`` search a window each.
    """
    symbols = np.empty(len(x), dtype=np.int32)
    # of equal size, so that threads end together; the same for any number of them
    size = -(-len(x) // max(1, -(-len(x) // WINDOW)))
    windows = [(first, min(first + size, len(x))) for first in range(0, len(x), max(1, size))]
    highest = rates[:, np.unique(index), -1].max(initial=0.0)
    scale = f32(LARGEST / (weight + highest))  # an error is one spacing at most
    for at in range(0, len(windows), threads):
        together = windows[at : at + threads]
        state = _search_windows((x, index, rates, weight, scale), together, state, symbols)
    return symbols


def _search_windows(
    operands: Operands,
    windows: list[tuple[int, int]],
    state: int,
    symbols: np.ndarray,
) -> int:
    """Symbols of consecutive windows, at a time; returns the state after them."""
    reached = [state] * len(windows)

    def begin(index: int, first: int, last: int) -> None:
        start = ANY if index else state
        reached[index] = _search_window(operands, first, last, start, symbols)

    run(begin, windows)
    for window, at in zip(windows, reached, strict=True):
        if at != state:  # too few latents before the window decided the path
            _search_window(operands, *window, state, symbols)
        _, state = follow(symbols[slice(*window)], state)
    return state


def _search_window(
    operands: Operands,
    first: int,
    last: int,
    state: int,
    symbols: np.ndarray,
) -> int:
    """Those from ``first`` to ``last``, of which ``OVERLAP`` more are regarded; without a state of
    theirs to begin with as many before them, too. Returns the state in which the path begins."""
    x, index, rates, weight, scale = operands
    begin = first if state != ANY else max(0, first - OVERLAP)
    part, before = slice(begin, last + OVERLAP), first - begin
    found = np.empty(len(x[part]), dtype=np.int32)
    decisions = np.empty((len(found), STATES // 8), dtype=np.uint8)
    while True:
        costs = rates, weight, scale
        reached = _search(x[part], index[part], *costs, state, before, found, decisions)
        if state in (ANY, reached):
            symbols[first:last] = found[before : before + last - first]
            return int(reached)
        scale = f32(scale / 2)  # paths from ``state`` cost so much that they could not be told
