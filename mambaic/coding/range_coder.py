"""Bytes of symbols: the only user of `constriction` ([Bamler2022] arXiv:2201.01741).

A range coder, so symbols are read in the order they were written. Symbols of one step are coded
table by table, ascending by level and then by position, which makes each table one native call.
Format section: docs/format.md, "Payload of a tile".
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from mambaic.coding.tables import LEVELS, PRECISION, Tables
from mambaic.errors import CorruptStream

SYMBOL_MAX = 1 << 20
_BITS = 32  # lengths of an integer's binary form


def _constriction() -> Any:
    import constriction  # 0.1 s of import, and only needed once something is coded

    return constriction


@lru_cache(maxsize=1)
def _length_model() -> Any:
    mass = 0.5 ** np.arange(_BITS)
    return _constriction().stream.model.Categorical(mass / mass.sum(), perfect=False)


@lru_cache(maxsize=16)
def _uniform(size: int) -> Any:
    return _constriction().stream.model.Uniform(size)


class TableModels:
    """The coder's models of a ``Tables``, made on first use."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._models: dict[int, Any] = {}

    def __getitem__(self, level: int) -> Any:
        if level not in self._models:
            mass = self.tables.table(level).astype(np.float64) / (1 << PRECISION)
            categorical = _constriction().stream.model.Categorical
            self._models[level] = categorical(mass, perfect=False)
        return self._models[level]

    def __deepcopy__(self, memo: dict[int, object]) -> TableModels:
        return self  # tables never change

    def runs(self, levels: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """(level, positions with it) for every level present, ascending; skipped ones left out."""
        order = np.argsort(levels, kind="stable")
        bounds = np.searchsorted(levels[order], np.arange(LEVELS + 1))
        return [
            (level, order[bounds[level] : bounds[level + 1]])
            for level in range(self.tables.skip, LEVELS)
            if bounds[level + 1] > bounds[level]
        ]


class RangeWriter:
    """Writes steps of symbols into one stream."""

    def __init__(self, models: TableModels) -> None:
        self._models = models
        self._coder = _constriction().stream.queue.RangeEncoder()

    def integers(self, values: np.ndarray) -> None:
        """Non-negative integers under 2**31: length of v + 1 in binary, then its lower bits."""
        for value in np.asarray(values, dtype=np.int64) + 1:
            length = int(value).bit_length()
            self._coder.encode(np.array([length - 1], dtype=np.int32), _length_model())
            for shift in range(0, length - 1, 16):
                width = min(16, length - 1 - shift)
                chunk = (int(value) >> shift) & ((1 << width) - 1)
                self._coder.encode(np.array([chunk], dtype=np.int32), _uniform(1 << width))

    def bits(self, flags: np.ndarray) -> None:
        if len(flags):
            self._coder.encode(flags.astype(np.int32), _uniform(2))

    def symbols(self, symbols: np.ndarray, levels: np.ndarray) -> None:
        """One step: symbols (n,) int32 under the tables ``levels`` (n,)."""
        for level, where in self._models.runs(levels):
            radius = int(self._models.tables.radius[level])
            values = symbols[where].astype(np.int32)
            escaped = np.abs(values) > radius
            self._coder.encode(
                np.where(escaped, 2 * radius + 1, values + radius).astype(np.int32),
                self._models[level],
            )
            extra = values[escaped]
            self.integers(np.abs(extra) - radius - 1)
            self.bits(extra < 0)

    def finish(self) -> bytes:
        return bytes(self._coder.get_compressed().astype("<u4").tobytes())


class RangeReader:
    """Reads what a ``RangeWriter`` wrote. Raises CorruptStream on data it cannot have written."""

    def __init__(self, payload: bytes, models: TableModels) -> None:
        if len(payload) % 4:
            raise CorruptStream(f"tile payload of {len(payload)} bytes is not whole 32-bit words")
        words = np.frombuffer(payload, dtype="<u4").astype(np.uint32)
        self._models = models
        self._coder = _constriction().stream.queue.RangeDecoder(words)

    def _decode(self, model: Any, count: int) -> np.ndarray:
        try:
            return np.asarray(self._coder.decode(model, count), dtype=np.int32)
        except (AssertionError, ValueError) as exc:
            raise CorruptStream("tile payload does not decode: the data is damaged") from exc

    def integers(self, count: int) -> np.ndarray:
        values = np.empty(count, dtype=np.int64)
        for i in range(count):
            length = int(self._decode(_length_model(), 1)[0]) + 1
            value = 1 << (length - 1)
            for shift in range(0, length - 1, 16):
                width = min(16, length - 1 - shift)
                value |= int(self._decode(_uniform(1 << width), 1)[0]) << shift
            values[i] = value - 1
        return values

    def bits(self, count: int) -> np.ndarray:
        if not count:
            return np.zeros(0, dtype=bool)
        return self._decode(_uniform(2), count).astype(bool)

    def symbols(self, levels: np.ndarray) -> np.ndarray:
        """Symbols of one step (n,), zero where the level is skipped."""
        symbols = np.zeros(len(levels), dtype=np.int32)
        for level, where in self._models.runs(levels):
            radius = int(self._models.tables.radius[level])
            values = self._decode(self._models[level], len(where)) - radius
            escaped = np.flatnonzero(values == radius + 1)
            extra = self.integers(len(escaped)) + radius + 1
            if len(extra) and int(extra.max()) > SYMBOL_MAX:
                raise CorruptStream("a decoded symbol exceeds its bound: the data is damaged")
            negative = self.bits(len(escaped))
            values[escaped] = np.where(negative, -extra, extra)
            symbols[where] = values
        return symbols
