"""The coder of symbols: what is written is read, near the ideal length, and an independent decoder
written from docs/format.md reads it too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mambaic.coding.symbols import SYMBOL_MAX, SymbolReader, SymbolWriter
from mambaic.coding.tables import (
    CONTEXTS,
    PRECISION,
    ROUNDED,
    SCALE_COUNT,
    TCQ,
    Tables,
    build_tables,
)
from mambaic.errors import CorruptStream
from mambaic_kernels.tcq.cpu import follow


def distinct(tables: Tables) -> Tables:
    """Every set another one: indices moved down by its number."""
    order = [
        (context, max(0, index - context))
        for context in range(CONTEXTS)
        for index in range(SCALE_COUNT)
    ]
    radius = np.array([tables.radius[context * SCALE_COUNT + index] for context, index in order])
    return Tables(radius, np.concatenate([tables.table(*row) for row in order]), tables.skip)


TABLES = distinct(build_tables(0.85, 2.2))

# docs/format.md: bits that an odd state and an odd symbol flip, lowest first
FEEDBACK = [0, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1]
INPUT = [1, 1, 1, 1, 0, 0, 0, 1, 1, 0, 1, 0]


def draw(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Symbols drawn from random tables (never the escape)."""
    indices = rng.integers(0, SCALE_COUNT, count)
    symbols = np.zeros(count, dtype=np.int32)
    for i, index in enumerate(indices):
        if index >= TABLES.skip:
            table = TABLES.table(TCQ, index)[:-1]
            symbols[i] = rng.choice(len(table), p=table / table.sum()) - len(table) // 2
    return symbols, indices


class PlainDecoder:
    """docs/format.md, "Payload of a tile", word for word and slow."""

    def __init__(self, payload: bytes) -> None:
        words = [int.from_bytes(payload[i : i + 2], "little") for i in range(0, len(payload), 2)]
        self.words = iter(words)
        self.state = [0] * 12
        self.x = 0
        for _ in range(3):
            self.x = (self.x << 16) + next(self.words)

    def interval(self, frequencies: list[int]) -> int:
        place, start, index = self.x % 65536, 0, 0
        while start + frequencies[index] <= place:
            start += frequencies[index]
            index += 1
        self.x = frequencies[index] * (self.x // 65536) + place - start
        if self.x < 1 << 32:
            self.x = (self.x << 16) + next(self.words)
        return index

    def bit(self) -> int:
        return self.interval([32768, 32768])

    def number(self) -> int:
        zeros = 0
        while not self.bit():
            zeros += 1
        value = 1
        for _ in range(zeros):
            value = 2 * value + self.bit()
        return value - 1

    def symbols(self, indices: list[int], *, tcq: bool) -> list[int]:
        """On the path where it stands."""
        out, state = [], self.state
        coded = [index for index in indices if index >= TABLES.skip]
        following = iter([*coded[1:], *coded[-1:]])
        for index in indices:
            if index < TABLES.skip:
                out.append(0)
                continue
            then = next(following)
            reached = sum(then >= bound for bound in (9, 13, 19))
            context = 1 + 4 * (state[0] + 2 * state[1] + 4 * state[2]) + reached if tcq else 0
            table = TABLES.table(context, index).tolist()
            radius = (len(table) - 2) // 2
            symbol = self.interval(table) - radius
            if symbol > radius:
                symbol += self.number()
                symbol = -symbol if self.bit() else symbol
            out.append(symbol)
            # bits of the state, lowest first, move down by one
            low, parity = state[0], symbol % 2
            moved = [*state[1:], 0]
            state = [
                m ^ (low & f) ^ (parity & i) for m, f, i in zip(moved, FEEDBACK, INPUT, strict=True)
            ]
        self.state = state
        return out


@pytest.mark.parametrize("tcq", [False, True])
def test_steps_of_symbols_and_bits_round_trip(tcq):
    rng = np.random.default_rng(0)
    steps = [draw(rng, n) for n in (0, 1, 500, 3)]
    steps[2][0][:20] = 1000  # escaped
    steps[2][0][steps[2][1] < TABLES.skip] = 0
    states, writer = [0], SymbolWriter(TABLES)
    for symbols, indices in steps:
        writer.symbols(symbols, indices, tcq=tcq, state=states[-1])
        writer.bits(symbols > 0)
        states.append(follow(symbols[indices >= TABLES.skip], states[-1])[1])
    payload = writer.finish(0xDEADBEEF)
    reader, plain = SymbolReader(payload, TABLES), PlainDecoder(payload)
    for (symbols, indices), state in zip(steps, states[:-1], strict=True):
        assert np.array_equal(reader.symbols(indices, tcq=tcq, state=state), symbols)
        assert np.array_equal(reader.bits(len(symbols)), symbols > 0)
        assert plain.symbols(indices.tolist(), tcq=tcq) == symbols.tolist()
        assert [plain.bit() for _ in symbols] == (symbols > 0).tolist()
    assert reader.finish() == plain.x - (1 << 32) == 0xDEADBEEF
    assert next(plain.words, None) is None


def test_length_is_the_ideal_one_within_a_permille():
    rng = np.random.default_rng(1)
    symbols, indices = draw(rng, 20000)
    writer = SymbolWriter(TABLES)
    writer.symbols(symbols, indices, tcq=False)
    tables = [TABLES.table(ROUNDED, index) for index in range(SCALE_COUNT)]
    ideal = sum(
        PRECISION - np.log2(tables[index][symbol + (len(tables[index]) - 2) // 2])
        for symbol, index in zip(symbols, indices, strict=True)
        if index >= TABLES.skip
    )
    assert 8 * len(writer.finish(0)) <= 1.001 * ideal + 64


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-SYMBOL_MAX, SYMBOL_MAX), min_size=1, max_size=20), st.booleans())
def test_symbols_beyond_their_table_escape_and_return(values, tcq):
    symbols = np.array(values, dtype=np.int32)
    indices = np.full(len(values), TABLES.skip)
    writer = SymbolWriter(TABLES)
    writer.symbols(symbols, indices, tcq=tcq)
    reader = SymbolReader(writer.finish(0), TABLES)
    assert np.array_equal(reader.symbols(indices, tcq=tcq), symbols)


def test_skipped_levels_take_no_bytes():
    writer = SymbolWriter(TABLES)
    empty = len(SymbolWriter(TABLES).finish(0))
    writer.symbols(np.zeros(10000, dtype=np.int32), np.zeros(10000, dtype=np.int64), tcq=True)
    assert len(writer.finish(0)) == empty == 6


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_arbitrary_bytes_decode_or_raise_the_typed_error(data, tcq):
    indices = np.arange(300) % SCALE_COUNT
    try:
        symbols = SymbolReader(data, TABLES).symbols(indices, tcq=tcq)
    except CorruptStream:
        return
    assert len(symbols) == 300


def test_payload_of_broken_words_is_refused():
    with pytest.raises(CorruptStream, match="16-bit words"):
        SymbolReader(b"12345", TABLES)


def test_payload_that_goes_on_is_refused():
    writer = SymbolWriter(TABLES)
    writer.bits(np.array([True]))
    reader = SymbolReader(writer.finish(0) + b"\0\0", TABLES)
    assert reader.bits(1).tolist() == [True]
    with pytest.raises(CorruptStream, match="goes on"):
        reader.finish()
