"""The three interpreters of the coding order: estimate bits, write symbols, read symbols.

The scale level of a latent picks its table and so must be the same in encoder and decoder although
their arithmetic differs in the last bits. Files are therefore coded in float64, and the encoder
records, step by step, the latents whose position lies within MARGIN of a level boundary: there the
decoder obeys the record.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from mambaic.coding import trellis
from mambaic.coding.priors import Prior, Shape
from mambaic.coding.schedule import Lattice, Site, as_rows, in_order
from mambaic.coding.symbols import SymbolReader, SymbolWriter
from mambaic.coding.tables import LEVELS, Tables, count_magnitudes, level_position, values
from mambaic.errors import CorruptStream

# in units of one level (a factor of 1.13 in scale); docs/reliability.md has the drift it must cover
# (under 1e-11) and what it costs (under 0.01 % of a file)
MARGIN = 1e-6
PRICED = 1 << 18  # symbols


@dataclass(frozen=True)
class LatentStream:
    """One coded latent tile: bytes, CRC32 of its symbols, and their ideal length in bits."""

    payload: bytes
    crc: int
    estimated_bits: float


class StepCoder(Protocol):
    """What drives the walk over the coding order."""

    def code(self, site: Site, prior: Prior) -> Tensor:
        """Code the latents at ``site``; return their dequantised values, rows (B, n, C) as the
        prior's."""


class Part(NamedTuple):
    """Latents of some steps, (B, n) each: what is priced (symbols; in training residuals in units
    of their quantiser's spacing, quantised or noisy), log-scales, the set of tables, and the
    residuals themselves in units of the spacing."""

    priced: Tensor
    log_scale: Tensor
    kind: Tensor
    residual: Tensor


class Estimator:
    """Counts bits instead of writing them; differentiable.

    In training, walk and synthesis see the quantised latents, straight-through ([Minnen2020],
    arXiv:2007.08739, Sec. 3.3). The rate is that of files where the model has tables
    (``Shape.relaxed_bits``), of noisy latents before.
    """

    def __init__(self, latents: Mapping[str, Tensor], shape: Shape, *, training: bool) -> None:
        self._latents = latents
        self._shape = shape
        self._training = training
        self._steps: dict[str, list[Part]] = {}
        self._sources: dict[tuple[str, int, Lattice], tuple[Tensor, ...]] = {}

    def code(self, site: Site, prior: Prior) -> Tensor:
        residual = self._source(site) - prior.mean
        priced, kind, quantised = self.quantise(site, residual, prior)
        step = Part(priced, prior.log_scale, kind, residual / trellis.spacing(site.latent))
        steps = self._steps.setdefault(site.latent, [])
        steps.append(Part(*(rows.flatten(1) for rows in step)))
        return quantised + prior.mean

    def _source(self, site: Site) -> Tensor:
        """The latents at a site. All slices of a step are taken at once: the gradient of every cut
        is a map of all latents."""
        step = site.of or site
        width = site.channels.stop - site.channels.start
        key = (step.latent, step.channels.start, step.lattice)
        if key not in self._sources:
            self._sources[key] = step.take(self._latents[site.latent]).split(width, dim=-1)
        return self._sources[key][(site.channels.start - step.channels.start) // width]

    def quantise(self, site: Site, residual: Tensor, prior: Prior) -> tuple[Tensor, Tensor, Tensor]:
        """Residuals as they are priced, their tables, and as walk and synthesis see them."""
        shape, operands = self._shape, (site, residual.detach(), prior.log_scale.detach())
        if self._training and residual.device.type != "cpu":
            symbols, kind = trellis.quantise_on_gpu(*operands, shape.prices_on(residual.device))
        else:
            # in training a latent that a file leaves out is rounded by itself: zeroed, it could
            # not learn that it is worth its bits
            symbols, kind = trellis.quantise_batch(
                *operands, shape.prices, shape.skip, rounded=self._training
            )
        quantised = values(symbols, kind)
        if not self._training:
            return symbols, kind, quantised
        if self._shape.tables is not None:
            priced = quantised / trellis.spacing(site.latent)
        else:
            priced = residual / trellis.spacing(site.latent) + torch.rand_like(residual) - 0.5
        return priced, kind, residual + (quantised - residual).detach()

    def bits(self, latent: str | None = None) -> Tensor:
        """Estimated bits per image (B,), of one latent or of all."""
        total: Tensor | float = 0.0
        for name, likelihood in self.likelihoods().items():
            if latent in (None, name):
                total = total - torch.log2(likelihood).sum(dim=1)
        assert isinstance(total, Tensor), "the walk visited nothing"
        return total

    def likelihoods(self) -> dict[str, Tensor]:
        """Likelihood of every value of each latent, (B, n), step after step; 1 where it is not
        coded."""
        return {latent: self.likelihood(latent, part) for latent, part in self._parts().items()}

    def _parts(self) -> dict[str, Part]:
        return {
            latent: Part(*(torch.cat(rows, dim=1) for rows in zip(*steps, strict=True)))
            for latent, steps in self._steps.items()
        }

    def likelihood(self, latent: str, part: Part) -> Tensor:
        """Likelihood of the latents of one part."""
        if not self._training:
            return self._shape.coded_likelihood(part.priced, part.log_scale, part.kind)
        if self._shape.tables is not None:
            return torch.exp2(-self._shape.relaxed_bits(*part))
        return self._shape.likelihood(part.priced, part.log_scale, trellis.spacing(latent))

    def counts(self) -> np.ndarray:
        """``count_magnitudes`` of all symbols."""
        assert not self._training, "only symbols can be counted"
        return np.sum([count_magnitudes(*part[:3]) for part in self._parts().values()], axis=0)


def _level_positions(prior: Prior) -> np.ndarray:
    return level_position(in_order(prior.log_scale)[0].double()).cpu().numpy()


def _dequantise(quantised: Tensor, prior: Prior) -> Tensor:
    """Quantised residuals in coding order + mean; the same for encoder and decoder."""
    return as_rows(quantised.to(prior.mean)[None], prior.mean.shape[-1]) + prior.mean


class Encoder:
    """Interprets the walk by writing symbols."""

    def __init__(self, latents: Mapping[str, Tensor], tables: Tables) -> None:
        self._latents = latents
        self._tables = tables
        self._writer = SymbolWriter(tables)
        self._crc = 0
        self._bits = 0.0

    def code(self, site: Site, prior: Prior) -> Tensor:
        level = _level_positions(prior)
        levels = np.floor(level).astype(np.int64)
        self._record(level, levels)
        residual = site.take(self._latents[site.latent]).double() - prior.mean.double()
        skip = self._tables.skip
        symbols = trellis.quantise(
            site, in_order(residual)[0].cpu().numpy(), levels, self._tables.prices, skip
        )
        self._writer.symbols(symbols, levels, trellis=trellis.has_trellis(site))
        self._crc = zlib.crc32(symbols.astype("<i4").tobytes(), self._crc)
        kind = torch.from_numpy(trellis.kinds(site, symbols, levels, skip))
        found = torch.from_numpy(symbols)
        self._bits += self._price(found, torch.from_numpy(levels), kind)
        return _dequantise(values(found.double(), kind), prior)

    def _price(self, *arrays: Tensor) -> float:
        """Ideal length in bits, some symbols at a time: it takes ten arrays of their size."""
        parts = zip(*(array.split(PRICED) for array in arrays), strict=True)
        likelihoods = (self._tables.likelihood(*part) for part in parts)
        return -sum(float(torch.log2(likelihood).sum()) for likelihood in likelihoods)

    def _record(self, level: np.ndarray, levels: np.ndarray) -> None:
        """Write which latents lie near a boundary, and on which side of it."""
        boundary = np.rint(level)
        near = np.abs(level - boundary) < MARGIN
        near &= (boundary >= max(1, self._tables.skip)) & (boundary < LEVELS)
        where = np.flatnonzero(near)
        self._writer.numbers(np.array([len(where)]))
        self._writer.numbers(np.diff(where, prepend=-1) - 1)
        self._writer.bits(levels[where] >= boundary[where])

    def finish(self) -> LatentStream:
        return LatentStream(self._writer.finish(), self._crc, self._bits)


class Decoder:
    """Interprets the walk by reading symbols."""

    def __init__(self, payload: bytes, tables: Tables) -> None:
        self._reader = SymbolReader(payload, tables)
        self._tables = tables
        self.crc = 0

    def code(self, site: Site, prior: Prior) -> Tensor:
        level = _level_positions(prior)
        levels = self._obey_record(level)
        symbols = self._reader.symbols(levels, trellis=trellis.has_trellis(site))
        self.crc = zlib.crc32(symbols.astype("<i4").tobytes(), self.crc)
        kind = torch.from_numpy(trellis.kinds(site, symbols, levels, self._tables.skip))
        return _dequantise(values(torch.from_numpy(symbols).double(), kind), prior)

    def _obey_record(self, level: np.ndarray) -> np.ndarray:
        count = int(self._reader.numbers(1)[0])
        if count > len(level):
            raise CorruptStream("a boundary record is longer than its step: the data is damaged")
        where = np.cumsum(self._reader.numbers(count) + 1) - 1
        upper = self._reader.bits(count)
        levels = np.floor(level).astype(np.int64)
        if count:
            if int(where[-1]) >= len(level):
                raise CorruptStream("a boundary record points past its step: the data is damaged")
            levels[where] = np.rint(level[where]).astype(np.int64) - np.where(upper, 0, 1)
        return levels

    def finish(self) -> None:
        """Raises CorruptStream unless the payload ends here."""
        self._reader.finish()
