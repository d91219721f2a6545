"""Writes the symbols of the walk."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor

from mambaic.coding import quantiser
from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import Site
from mambaic.coding.step_coder import StepCoder, residuals_and_indices, rows_like
from mambaic.coding.symbols import SymbolWriter
from mambaic.coding.tables import Tables, values_in


class Mark(NamedTuple):
    """How far an encoder has come."""

    written: int
    crc: int


class Encoder(StepCoder):
    """Interprets the walk by writing symbols of ``latents``."""

    def __init__(self, latents: Mapping[str, Tensor], tables: Tables) -> None:
        self.latents = dict(latents)
        self._writer = SymbolWriter(tables)
        self._search = quantiser.Search(1, tables.rates, tables.skip)
        self._crc = 0

    def _code_sub_group(self, site: Site, prior: Prior) -> Tensor:
        residuals, indices = residuals_and_indices(site, self.latents[site.latent], prior)
        found = self.write(site, residuals[0], indices[0])
        return rows_like(found[None], prior.mean) + prior.mean

    def write(self, site: Site, residual: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Find symbols of residuals (n,) float64 with scale indices (n,) int64 in coding order, and
        write them: their values (n,) float32."""
        state = self._search.state(site)
        symbols, contexts = self._search.find(site, residual[None], indices[None])
        self._writer.symbols(symbols[0], indices, tcq=quantiser.uses_tcq(site), state=state)
        self._crc = zlib.crc32(symbols.astype("<i4").tobytes(), self._crc)
        return values_in(symbols[0], contexts[0])

    def flag(self, value: bool) -> None:
        """Write a bit of its own."""
        self._writer.bits(np.array([value]))

    def mark(self) -> Mark:
        """For ``bits_since`` and ``undo``, between whole sites."""
        return Mark(self._writer.parts, self._crc)

    def bits_since(self, mark: Mark) -> float:
        return self._writer.bits_written(mark.written)

    def undo(self, mark: Mark) -> None:
        """Forget what was coded since."""
        self._writer.cut(mark.written)
        self._crc = mark.crc

    def finish(self) -> tuple[bytes, float]:
        """The payload, and the ideal length of its symbols in bits."""
        return self._writer.finish(self._crc), self._writer.bits_written()
