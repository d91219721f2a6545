"""Reads the symbols of the walk."""

from __future__ import annotations

import zlib

import numpy as np
from torch import Tensor

from mambaic.coding import quantiser
from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import Site
from mambaic.coding.step_coder import (
    Step,
    StepCoder,
    dequantise,
    ordered_scale_positions,
)
from mambaic.coding.symbols import SymbolReader
from mambaic.coding.tables import SCALE_COUNT, Tables
from mambaic.errors import CorruptStream


class Decoder(StepCoder):
    """Interprets the walk by reading symbols."""

    def __init__(self, payload: bytes, tables: Tables) -> None:
        self._reader = SymbolReader(payload, tables)
        self._paths = quantiser.Paths(1, tables.skip)
        self._crc = 0
        self._count = 0
        recorded = int(self._reader.numbers(1)[0])
        if recorded > 4 * len(payload):  # each takes two bits or more
            raise CorruptStream("the boundary record is longer than its tile: the data is damaged")
        self._near = np.cumsum(self._reader.numbers(recorded) + 1) - 1
        self._sides = self._reader.bits(recorded)

    def _code_sub_group(self, step: Step, site: Site, prior: Prior) -> Tensor:
        indices = self._obey_record(ordered_scale_positions(prior.log_scale)[0])
        state = self._paths.state(site)
        symbols = self._reader.symbols(indices, tcq=quantiser.uses_tcq(site), state=state)
        self._crc = zlib.crc32(symbols.astype("<i4").tobytes(), self._crc)
        contexts = self._paths.follow(site, symbols, indices, state)
        return dequantise(symbols[None], contexts[None], prior.mean)

    def flag(self) -> bool:
        """Read what ``Encoder.flag`` wrote."""
        return bool(self._reader.bits(1)[0])

    def _obey_record(self, index: np.ndarray) -> np.ndarray:
        first, self._count = self._count, self._count + len(index)
        recorded = slice(*np.searchsorted(self._near, (first, self._count)))
        where = self._near[recorded] - first
        indices = np.floor(index).astype(np.int64)
        below = np.where(self._sides[recorded], 0, 1)
        sides = np.rint(index[where]).astype(np.int64) - below
        indices[where] = np.clip(
            sides, 0, SCALE_COUNT - 1
        )  # damage may claim a boundary at the ends
        return indices

    def finish(self) -> None:
        """Raises CorruptStream unless the payload ends here, and the symbols are the encoder's."""
        crc = self._reader.finish()
        if len(self._near) and self._near[-1] >= self._count:
            raise CorruptStream("the boundary record points past its tile: the data is damaged")
        if crc != self._crc:
            raise CorruptStream(f"their CRC is {self._crc:08x} instead of {crc:08x}")
