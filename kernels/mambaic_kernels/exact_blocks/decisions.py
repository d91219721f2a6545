"""Binary decisions under mixed contexts, arithmetically coded.

Every context of a decision names a slot: a probability, and how often it was met. Their logits are
mixed with weights that learn ([Mahoney2005] Adaptive weighing of context models for lossless data
compression), and the decision is coded by an interval of 32-bit integers ([Rissanen1979]). All is
integer arithmetic, the same on every machine. Format section: docs/format.md, "Exact blocks".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mambaic_kernels.simd import exact_jit

CONTEXTS = 8
SLOT_BITS = 18  # of a context's table
SETS = 49  # of weights
FIRST_WEIGHT = 20_000  # of 65536
LEARNING = 7
LIMIT = 255  # meetings that count
REACH = 3072  # of mixed logits, in 1/256
WORD = (1 << 32) - 1
# COUNT: the bits of decisions alone are counted; SETTLE: and pixels changed to what costs less
READ, WRITE, COUNT, SETTLE = 0, 1, 2, 3

_logits = np.log((np.arange(4096) + 0.5) / (4095.5 - np.arange(4096)))
LOGIT = np.rint(256 * _logits).clip(-2047, 2047).astype(np.int64)
_chances = 65536 / (1 + np.exp(-np.arange(-REACH, REACH) / 256))
CHANCE = np.rint(_chances).clip(1, 65535).astype(np.int64)
RATE = np.rint(65536 / (np.arange(LIMIT + 1) + 1.5)).astype(np.int64)
BITS = -np.log2(np.arange(1, 65537) / 65536)


class State(NamedTuple):
    """What decisions are made of."""

    slots: NDArray[np.uint32]  # (CONTEXTS, 2**SLOT_BITS): 22 bits of probability, 10 of meetings
    weights: NDArray[np.int64]  # (SETS, CONTEXTS), of 65536
    places: NDArray[np.int64]  # (CONTEXTS,), the slots of a decision
    logits: NDArray[np.int64]  # (CONTEXTS,)
    coder: NDArray[np.int64]  # (4,): low and high end of the interval, code in it, position in data
    data: NDArray[np.uint8]
    bits: NDArray[np.float64]  # (1,), spent


def new_state(data: NDArray[np.uint8]) -> State:
    """State at the front of ``data``."""
    front = np.zeros(4, np.uint8)
    front[: min(4, len(data))] = data[:4]
    return State(
        slots=np.full((CONTEXTS, 1 << SLOT_BITS), 1 << 31, np.uint32),
        weights=np.full((SETS, CONTEXTS), FIRST_WEIGHT, np.int64),
        places=np.zeros(CONTEXTS, np.int64),
        logits=np.zeros(CONTEXTS, np.int64),
        coder=np.array([0, WORD, int.from_bytes(front.tobytes(), "big"), 0], np.int64),
        data=data,
        bits=np.zeros(1),
    )


@exact_jit(nogil=True)
def decide(state, bit, chosen, mode):  # type: ignore[no-untyped-def]
    """Code or read a decision under the slots ``state.places`` and a set of weights; returns it."""
    chance = foresee(state, chosen)
    bit = _code(state, bit, chance, mode)
    state.bits[0] += bits_of(bit, chance)
    _learn(state, bit, chance, chosen)
    return bit


@exact_jit(nogil=True)
def foresee(state, chosen):  # type: ignore[no-untyped-def]
    """The chance, of 65536, that a decision is 1."""
    mixed = 0
    for i in range(CONTEXTS):
        logit = LOGIT[np.int64(state.slots[i, state.places[i]]) >> 20]
        state.logits[i] = logit
        mixed += logit * state.weights[chosen, i]
    return CHANCE[min(max(mixed >> 16, -REACH), REACH - 1) + REACH]


@exact_jit(inline="always")
def bits_of(bit, chance):  # type: ignore[no-untyped-def]
    """Of a decision that is 1 with a chance."""
    return BITS[(chance if bit else 65536 - chance) - 1]


@exact_jit(nogil=True)
def _code(state, bit, chance, mode):  # type: ignore[no-untyped-def]
    """A decision that is 1 with ``chance`` of 65536."""
    if mode >= COUNT:
        return bit
    low, high = state.coder[0], state.coder[1]
    middle = low + (((high - low) * chance) >> 16)
    if mode == READ:
        bit = 1 if state.coder[2] <= middle else 0
    if bit:
        high = middle
    else:
        low = middle + 1
    while (low ^ high) >> 24 == 0:
        _shift(state, high >> 24, mode)
        low = (low << 8) & WORD
        high = ((high << 8) & WORD) | 255
    state.coder[0], state.coder[1] = low, high
    return bit


@exact_jit(nogil=True)
def _shift(state, byte, mode):  # type: ignore[no-untyped-def]
    at = state.coder[3]
    state.coder[3] = at + 1
    if mode == WRITE:
        if at < len(state.data):
            state.data[at] = byte
        return
    following = np.int64(state.data[at + 4]) if at + 4 < len(state.data) else 0
    state.coder[2] = ((state.coder[2] << 8) & WORD) | following


@exact_jit(nogil=True)
def _learn(state, bit, chance, chosen):  # type: ignore[no-untyped-def]
    missed = (bit << 16) - chance
    target = (1 << 22) - 1 if bit else 0
    for i in range(CONTEXTS):
        state.weights[chosen, i] += (state.logits[i] * missed * LEARNING + (1 << 19)) >> 20
        slot = np.int64(state.slots[i, state.places[i]])
        probability, met = slot >> 10, slot & 1023
        probability += ((target - probability) * RATE[met]) >> 16
        state.slots[i, state.places[i]] = (probability << 10) | min(met + 1, LIMIT)
