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
from mambaic.coding.step_coder import (
    MARGIN,
    Step,
    StepCoder,
    dequantise,
    ordered_scale_positions,
    search_path,
)
from mambaic.coding.symbols import SymbolWriter
from mambaic.coding.tables import SCALE_COUNT, Tables


class Mark(NamedTuple):
    """How far an encoder has come."""

    written: int
    crc: int
    coded: int
    steps: int


class Encoder(StepCoder):
    """Interprets the walk by writing symbols of ``latents``."""

    def __init__(self, latents: Mapping[str, Tensor], tables: Tables) -> None:
        self.latents = dict(latents)
        self._tables = tables
        self._writer = SymbolWriter(tables)
        self._search = quantiser.Search(1, tables.rates, tables.skip)
        self._crc = 0
        self._count = 0  # of latents coded so far
        self._near: list[np.ndarray] = []
        self._sides: list[np.ndarray] = []

    def _code_sub_group(self, step: Step, site: Site, prior: Prior) -> Tensor:
        position = ordered_scale_positions(prior.log_scale)[0]
        indices = np.floor(position).astype(np.int64)
        self._record(position, indices)
        state = self._search.state(site)
        symbols, contexts = search_path(self._search, self._source, step, site, prior)
        self._writer.symbols(symbols[0], indices, tcq=quantiser.uses_tcq(site), state=state)
        self._crc = zlib.crc32(symbols.astype("<i4").tobytes(), self._crc)
        return dequantise(symbols, contexts, prior.mean)

    def flag(self, value: bool) -> None:
        """Write a bit of its own."""
        self._writer.bits(np.array([value]))

    def mark(self) -> Mark:
        """For ``bits_since`` and ``undo``, between whole sites."""
        return Mark(self._writer.parts, self._crc, self._count, len(self._near))

    def bits_since(self, mark: Mark) -> float:
        return self._writer.bits_written(mark.written)

    def undo(self, mark: Mark) -> None:
        """Forget what was coded since."""
        self._writer.cut(mark.written)
        self._crc, self._count = mark.crc, mark.coded
        del self._near[mark.steps :], self._sides[mark.steps :]

    def _source(self, site: Site) -> Tensor:
        return site.take(self.latents[site.latent]).double()

    def _record(self, position: np.ndarray, indices: np.ndarray) -> None:
        """Keep which latents lie near a boundary, and on which side of it."""
        boundary = np.rint(position)
        near = np.abs(position - boundary) < MARGIN
        near &= (boundary >= max(1, self._tables.skip)) & (boundary < SCALE_COUNT)
        where = np.flatnonzero(near)
        self._near.append(self._count + where)
        self._sides.append(indices[where] >= boundary[where])
        self._count += len(position)

    def finish(self) -> tuple[bytes, float]:
        """The payload, and the ideal length of its symbols in bits."""
        where = np.concatenate(self._near)
        stream = SymbolWriter(self._tables)
        stream.numbers(np.array([len(where)]))
        stream.numbers(np.diff(where, prepend=-1) - 1)
        stream.bits(np.concatenate(self._sides))
        stream.append(self._writer)
        return stream.finish(self._crc), self._writer.bits_written()
