"""Reads the symbols of the walk."""

from __future__ import annotations

import zlib

import numpy as np
from torch import Tensor

from mambaic.coding import quantiser
from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import Site
from mambaic.coding.step_coder import StepCoder, ordered_indices, rows_like
from mambaic.coding.symbols import SymbolReader
from mambaic.coding.tables import Tables, values_in
from mambaic.errors import CorruptStream


class Decoder(StepCoder):
    """Interprets the walk by reading symbols."""

    def __init__(self, payload: bytes, tables: Tables) -> None:
        self._reader = SymbolReader(payload, tables)
        self._paths = quantiser.Paths(1, tables.skip)
        self._crc = 0

    def _code_sub_group(self, site: Site, prior: Prior) -> Tensor:
        found = self.read(site, ordered_indices(prior.log_scale)[0])
        return rows_like(found[None], prior.mean) + prior.mean

    def read(self, site: Site, indices: np.ndarray) -> np.ndarray:
        """Values (n,) float32 of symbols with scale indices (n,) int64 in coding order."""
        state = self._paths.state(site)
        symbols = self._reader.symbols(indices, tcq=quantiser.uses_tcq(site), state=state)
        self._crc = zlib.crc32(symbols.astype("<i4").tobytes(), self._crc)
        contexts = self._paths.follow(site, symbols, indices, state)
        return values_in(symbols, contexts)

    def flag(self) -> bool:
        """Read what ``Encoder.flag`` wrote."""
        return bool(self._reader.bits(1)[0])

    def finish(self) -> None:
        """Raises CorruptStream unless the payload ends here, and the symbols are the encoder's."""
        crc = self._reader.finish()
        if crc != self._crc:
            raise CorruptStream(f"their CRC is {self._crc:08x} instead of {crc:08x}")
