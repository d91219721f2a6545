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

import numpy as np

from mambaic_kernels.simd import f32, jit

BITS = 8
STATES = 1 << BITS
HALF = STATES // 2
# parity checks 515 and 362 (octal) without their lowest bit: what an odd state and an odd symbol
# add to the state, shifted by one, that follows
FEEDBACK, INPUT = 0o515 >> 1, 0o362 >> 1
GATHER = np.uint64(0x0102040810204080)
FAR = f32(1e30)
LANE = 8
RELATE = 256
EVEN_LANE, EVEN_BLOCK = INPUT % LANE, INPUT - INPUT % LANE
ODD_LANE, ODD_BLOCK = FEEDBACK % LANE, (FEEDBACK ^ HALF) - FEEDBACK % LANE


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


@jit(nogil=True)
def _search(x, level, prices, weight, symbols, decisions):  # type: ignore[no-untyped-def]
    """Viterbi algorithm; ``decisions`` holds one bit for every state after every latent: the parity
    on the best path to it. Both paths to a state come from states of one parity, its highest bit.
    """
    even, odd = np.full(HALF, FAR), np.full(HALF, FAR)
    even[0] = f32(0.0)
    new = np.empty(STATES, dtype=np.float32)
    parity = np.empty(STATES, dtype=np.uint8)
    eights = parity.view(np.uint64)
    for i in range(len(x)):
        magnitude = abs(x[i])
        _, even0 = _choose(magnitude, 0, 0, prices[0, level[i]], weight)
        _, even1 = _choose(magnitude, 0, 1, prices[0, level[i]], weight)
        _, odd0 = _choose(magnitude, 1, 0, prices[1, level[i]], weight)
        _, odd1 = _choose(magnitude, 1, 1, prices[1, level[i]], weight)
        if not i % RELATE:  # to the best so far, so that single precision is enough
            least = min(even.min(), odd.min())
            even -= least
            odd -= least
        # in blocks of eight, whose order a vector register can permute
        for block in range(0, HALF, LANE):
            for j in range(LANE):
                a, b = even[block + j] + even0, even[(block ^ EVEN_BLOCK) + (j ^ EVEN_LANE)] + even1
                new[block + j] = min(a, b)
                parity[block + j] = b < a
            for j in range(LANE):
                a = odd[(block ^ ODD_BLOCK) + (j ^ ODD_LANE)] + odd0
                b = odd[(block ^ ODD_BLOCK ^ EVEN_BLOCK) + (j ^ ODD_LANE ^ EVEN_LANE)] + odd1
                new[HALF + block + j] = min(a, b)
                parity[HALF + block + j] = b < a
        for byte in range(STATES // 8):  # eight flags of a byte each become the bits of one
            decisions[i, byte] = (eights[byte] * GATHER) >> np.uint64(56)
        for m in range(HALF):
            even[m], odd[m] = new[2 * m], new[2 * m + 1]
    best, state = FAR, np.int64(0)
    for n in range(STATES):
        cost = odd[n >> 1] if n & 1 else even[n >> 1]
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
