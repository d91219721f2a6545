"""The range coder: what is written is read, near the ideal length, and an independent decoder
written from docs/format.md reads it too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mambaic.coding.range_coder import RangeReader, RangeWriter, TableModels
from mambaic.coding.tables import LEVELS, PRECISION, build_tables
from mambaic.errors import CorruptStream

TABLES = build_tables(0.85, 2.2, 0.16)
MODELS = TableModels(TABLES)


def draw(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Symbols drawn from random tables (never the escape)."""
    levels = rng.integers(0, LEVELS, count)
    symbols = np.zeros(count, dtype=np.int32)
    for i, level in enumerate(levels):
        if level >= TABLES.skip:
            table = TABLES.table(level)[:-1]
            symbols[i] = rng.choice(len(table), p=table / table.sum()) - TABLES.radius[level]
    return symbols, levels


def test_steps_of_symbols_integers_and_bits_round_trip():
    rng = np.random.default_rng(0)
    steps = [draw(rng, n) for n in (0, 1, 500, 3)]
    writer = RangeWriter(MODELS)
    for symbols, levels in steps:
        writer.integers(np.array([len(symbols), 70000]))
        writer.symbols(symbols, levels)
        writer.bits(symbols > 0)
    reader = RangeReader(writer.finish(), MODELS)
    for symbols, levels in steps:
        assert reader.integers(2).tolist() == [len(symbols), 70000]
        assert np.array_equal(reader.symbols(levels), symbols)
        assert np.array_equal(reader.bits(len(symbols)), symbols > 0)


def test_length_is_the_ideal_one_within_a_permille():
    rng = np.random.default_rng(1)
    symbols, levels = draw(rng, 20000)
    writer = RangeWriter(MODELS)
    writer.symbols(symbols, levels)
    ideal = sum(
        PRECISION - np.log2(TABLES.table(level)[symbol + TABLES.radius[level]])
        for symbol, level in zip(symbols, levels, strict=True)
        if level >= TABLES.skip
    )
    assert 8 * len(writer.finish()) <= 1.001 * ideal + 64


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-(1 << 20), 1 << 20), min_size=1, max_size=20))
def test_symbols_beyond_their_table_escape_and_return(values):
    symbols = np.array(values, dtype=np.int32)
    levels = np.full(len(values), TABLES.skip)
    writer = RangeWriter(MODELS)
    writer.symbols(symbols, levels)
    assert np.array_equal(RangeReader(writer.finish(), MODELS).symbols(levels), symbols)


def test_skipped_levels_take_no_bytes():
    writer = RangeWriter(MODELS)
    writer.symbols(np.zeros(10000, dtype=np.int32), np.zeros(10000, dtype=np.int64))
    assert len(writer.finish()) == 0


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_decode_or_raise_the_typed_error(data):
    levels = np.arange(300) % LEVELS
    try:
        symbols = RangeReader(data, MODELS).symbols(levels)
    except CorruptStream:
        return
    assert len(symbols) == 300


def test_payload_of_broken_words_is_refused():
    with pytest.raises(CorruptStream, match="32-bit words"):
        RangeReader(b"12345", MODELS)
