"""Bytes of symbols: one stream per tile, read in the order in which it was written.

Loops: ``mambaic_kernels.entropy_coder``. Format: docs/format.md, "Payload of a tile".
"""

from __future__ import annotations

import numpy as np

from mambaic.coding.tables import (
    CONTEXTS,
    PRECISION,
    RANGE_OF,
    ROUNDED,
    SCALE_COUNT,
    TCQ,
    Tables,
)
from mambaic.container.fields import WORD_BYTES
from mambaic.errors import CorruptStream
from mambaic_kernels.entropy_coder import ans, sub_groups
from mambaic_kernels.tcq.cpu import CLASSES, CODE

SYMBOL_MAX = 1 << 20
# rows of tables by class of the state, of z (which has no states) and of y
_ROWS = [
    np.arange(contexts.start * SCALE_COUNT, contexts.stop * SCALE_COUNT).reshape(classes, -1)
    for contexts, classes in ((range(ROUNDED, TCQ), 1), (range(TCQ, CONTEXTS), CLASSES))
]
_ERRORS = {
    ans.ENDED: "tile payload ends before its last symbol: the data is damaged",
    ans.TOO_LARGE: "a decoded symbol exceeds its bound: the data is damaged",
}


def coded_places(indices: np.ndarray, skip: int, *, tcq: bool) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the latents of a sub-group that are coded, by their scale indices (n,) int64,
    and the rows of their tables among those of a class."""
    positions, places = np.empty((2, len(indices)), dtype=np.int64)
    rows_of_range = SCALE_COUNT if tcq else 0
    count = sub_groups.coded(indices, skip, RANGE_OF, rows_of_range, positions, places)
    return positions[:count], places[:count]


def _layout(tables: Tables) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the sums of each table begin, its radius, and the sums."""
    return tables.starts + np.arange(CONTEXTS * SCALE_COUNT), tables.radius, tables.cumulative


class SymbolWriter:
    """Collects steps of symbols for one stream."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._intervals = [np.zeros((2, 0), dtype=np.uint16)]  # starts and sizes of every part

    def _keep(self, start: np.ndarray, size: np.ndarray, count: int) -> None:
        if count:
            self._intervals.append(np.stack([start[:count], size[:count]]))

    def bits(self, flags: np.ndarray) -> None:
        start = np.where(flags, ans.HALF, 0).astype(np.uint16)
        self._keep(start, np.full(len(flags), ans.HALF, dtype=np.uint16), len(flags))

    def symbols(
        self, symbols: np.ndarray, indices: np.ndarray, *, tcq: bool, state: int = 0
    ) -> None:
        """Symbols (n,) int32 with scale indices (n,) int64, on a path from ``state``. Skipped ones
        are left out, of the path too."""
        coded, at = coded_places(indices, self._tables.skip, tcq=tcq)
        symbols = symbols[coded]
        first, radius, cumulative = _layout(self._tables)
        # an escape takes a number, at most 2 bits for every one of SYMBOL_MAX, and a sign
        rows = _ROWS[tcq]
        escaped = int(np.sum(np.abs(symbols) > radius[rows].min(axis=0)[at]))
        room = len(symbols) + escaped * (2 * SYMBOL_MAX.bit_length() + 2)
        start, size = np.empty((2, room), dtype=np.uint16)
        tables = rows, first, radius, cumulative
        count = ans.symbols(symbols, at, *tables, CODE, state, start, size)
        self._keep(start, size, count)

    @property
    def parts(self) -> int:
        """How many parts were given so far."""
        return len(self._intervals)

    def cut(self, parts: int) -> None:
        """Forget all but so many parts, at least the first."""
        del self._intervals[parts:]

    def bits_written(self, parts: int = 0) -> float:
        """Ideal length of all that was given, after so many ``parts``."""
        sizes = np.concatenate([size for _, size in self._intervals[:1] + self._intervals[parts:]])
        return PRECISION * len(sizes) - float(np.log2(sizes, dtype=np.float64).sum())

    def append(self, other: SymbolWriter) -> None:
        """All that ``other`` was given, after what this one was."""
        self._intervals += other._intervals

    def finish(self, check: int) -> bytes:
        """The stream. A reader finds ``check``, under 2**32, behind its end: it takes no room."""
        start, size = np.concatenate(self._intervals, axis=1)
        words = np.empty(len(start) + 3, dtype=np.uint16)
        return bytes(words[ans.write(start, size, check, words) :].astype("<u2").tobytes())


class SymbolReader:
    """Reads what a ``SymbolWriter`` wrote. Raises CorruptStream on data it cannot have written."""

    def __init__(self, payload: bytes, tables: Tables) -> None:
        if len(payload) % WORD_BYTES:
            raise CorruptStream(f"tile payload of {len(payload)} bytes is not whole 16-bit words")
        if len(payload) < 3 * WORD_BYTES:
            raise CorruptStream(_ERRORS[ans.ENDED])
        self._words = np.frombuffer(payload, dtype="<u2").astype(np.int64)
        high, middle, low = self._words[:3].tolist()
        self._cursor = np.array([3, (high << 32) | (middle << 16) | low], dtype=np.int64)
        self._tables = tables

    def _check(self, status: int) -> None:
        if status != ans.OK:
            raise CorruptStream(_ERRORS[status])

    def bits(self, count: int) -> np.ndarray:
        flags = np.empty(count, dtype=np.int64)
        self._check(ans.read_bits(self._words, self._cursor, flags))
        return flags.astype(bool)

    def symbols(self, indices: np.ndarray, *, tcq: bool, state: int = 0) -> np.ndarray:
        """Symbols (n,) int32 on a path from ``state`` on, zero where the index is skipped."""
        symbols = np.zeros(len(indices), dtype=np.int32)
        coded, at = coded_places(indices, self._tables.skip, tcq=tcq)
        found = np.empty(len(coded), dtype=np.int32)
        tables = _ROWS[tcq], *_layout(self._tables)
        status = ans.read_symbols(
            self._words, self._cursor, at, *tables, CODE, state, SYMBOL_MAX, found
        )
        self._check(status)
        symbols[coded] = found
        return symbols

    def finish(self) -> int:
        """The writer's ``check``. Raises CorruptStream unless all was read."""
        check = int(self._cursor[1]) - ans.LOW
        if self._cursor[0] != len(self._words) or check >= ans.LOW:
            raise CorruptStream("tile payload goes on after its last symbol: the data is damaged")
        return check
