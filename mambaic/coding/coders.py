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
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mambaic.coding.priors import Prior, Shape
from mambaic.coding.range_coder import SYMBOL_MAX, RangeReader, RangeWriter, TableModels
from mambaic.coding.schedule import Site
from mambaic.coding.tables import LEVELS, count_magnitudes, level_position
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
        """Code the latents at ``site``; return their dequantised values, zero elsewhere."""


class Estimator:
    """Counts bits instead of writing them; differentiable.

    Training (``noise=True``) adds uniform noise for the rate and rounds straight-through for what
    the walk and the synthesis see ([Minnen2020], arXiv:2007.08739, Sec. 3.3).
    """

    def __init__(self, latents: Mapping[str, Tensor], shape: Shape, *, noise: bool) -> None:
        self._latents = latents
        self._shape = shape
        self._noise = noise
        self._parts: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
        self._sources: dict[tuple[str, int], Tensor] = {}

    def code(self, site: Site, prior: Prior) -> Tensor:
        mask = site.mask(prior.mean)
        key = (site.latent, site.channels.start)
        if key not in self._sources:  # cut out once: every cut's gradient is a map of all latents
            self._sources[key] = self._latents[site.latent][:, site.channels]
        priced, rounded = self.quantise(site, self._sources[key] - prior.mean, prior)
        # the lattices of a group share no position, so their masked sum is the whole map
        part = (priced * mask, prior.log_scale * mask)
        if key in self._parts:
            part = (self._parts[key][0] + part[0], self._parts[key][1] + part[1])
        self._parts[key] = part
        return (rounded + prior.mean) * mask

    def quantise(self, site: Site, residual: Tensor, prior: Prior) -> tuple[Tensor, Tensor]:
        """Residuals as they are priced, and as walk and synthesis see them."""
        rounded = torch.round(residual)
        if self._noise:
            priced = residual + torch.rand_like(residual) - 0.5
            return priced, residual + (rounded - residual).detach()
        rounded = rounded.masked_fill(self._shape.skipped(prior.log_scale), 0.0)
        return rounded, rounded

    def bits(self, latent: str | None = None) -> Tensor:
        """Estimated bits per image (B,), of one latent or of all."""
        total: Tensor | float = 0.0
        for (name, _), likelihood in self.likelihoods().items():
            if latent in (None, name):
                total = total - torch.log2(likelihood).sum(dim=(1, 2, 3))
        assert isinstance(total, Tensor), "the walk visited nothing"
        return total

    def likelihoods(self) -> dict[tuple[str, int], Tensor]:
        """Likelihood of every latent, by latent and first channel; 1 where it is not coded."""
        price = self._shape.likelihood if self._noise else self._shape.coded_likelihood
        return {key: price(*part) for key, part in self._parts.items()}

    def counts(self) -> np.ndarray:
        """``count_magnitudes`` of all rounded latents."""
        assert not self._noise, "only rounded residuals can be counted"
        return np.sum([count_magnitudes(*part) for part in self._parts.values()], axis=0)


def _site_values(tensor: Tensor, positions: Tensor) -> Tensor:
    """Values at a site in coding order (channel, then position), of a batch of one, float64."""
    return tensor[0].flatten(1)[:, positions.to(tensor.device)].reshape(-1).double()


def _level_positions(prior: Prior, positions: Tensor) -> np.ndarray:
    return level_position(_site_values(prior.log_scale, positions)).cpu().numpy()


def _dequantise(symbols: np.ndarray, prior: Prior, positions: Tensor) -> Tensor:
    """symbols + mean at the site, zero elsewhere; the same for encoder and decoder."""
    _, channels, height, width = prior.mean.shape
    mean = prior.mean[0].flatten(1)
    where = positions.to(mean.device)
    values = torch.from_numpy(symbols).to(mean).view(channels, -1) + mean[:, where]
    y_hat = torch.zeros_like(mean)
    y_hat[:, where] = values
    return y_hat.view(1, channels, height, width)


class Encoder:
    """Interprets the walk by writing symbols."""

    def __init__(self, latents: Mapping[str, Tensor], models: TableModels) -> None:
        self._latents = latents
        self._models = models
        self._writer = RangeWriter(models)
        self._crc = 0
        self._bits = 0.0

    def code(self, site: Site, prior: Prior) -> Tensor:
        positions = site.positions(*prior.mean.shape[-2:])
        level = _level_positions(prior, positions)
        levels = np.floor(level).astype(np.int64)
        self._record(level, levels)
        residual = _site_values(self._latents[site.latent][:, site.channels], positions)
        residual -= _site_values(prior.mean, positions)
        bounded = np.clip(np.rint(residual.cpu().numpy()), -SYMBOL_MAX, SYMBOL_MAX)
        symbols = np.where(levels < self._models.tables.skip, 0, bounded).astype(np.int32)
        self._writer.symbols(symbols, levels)
        self._crc = zlib.crc32(symbols.astype("<i4").tobytes(), self._crc)
        self._bits += self._price(torch.from_numpy(symbols), torch.from_numpy(levels))
        return _dequantise(symbols, prior, positions)

    def _price(self, symbols: Tensor, levels: Tensor) -> float:
        """Ideal length in bits, some symbols at a time: it takes ten arrays of their size."""
        parts = zip(symbols.split(PRICED), levels.split(PRICED), strict=True)
        likelihoods = (self._models.tables.likelihood(*part) for part in parts)
        return -sum(float(torch.log2(likelihood).sum()) for likelihood in likelihoods)

    def _record(self, level: np.ndarray, levels: np.ndarray) -> None:
        """Write which latents lie near a boundary, and on which side of it."""
        boundary = np.rint(level)
        near = np.abs(level - boundary) < MARGIN
        near &= (boundary >= max(1, self._models.tables.skip)) & (boundary < LEVELS)
        where = np.flatnonzero(near)
        self._writer.integers(np.array([len(where)]))
        self._writer.integers(np.diff(where, prepend=-1) - 1)
        self._writer.bits(levels[where] >= boundary[where])

    def finish(self) -> LatentStream:
        return LatentStream(self._writer.finish(), self._crc, self._bits)


class Decoder:
    """Interprets the walk by reading symbols."""

    def __init__(self, payload: bytes, models: TableModels) -> None:
        self._reader = RangeReader(payload, models)
        self.crc = 0

    def code(self, site: Site, prior: Prior) -> Tensor:
        positions = site.positions(*prior.mean.shape[-2:])
        level = _level_positions(prior, positions)
        levels = self._obey_record(level)
        symbols = self._reader.symbols(levels)
        self.crc = zlib.crc32(symbols.astype("<i4").tobytes(), self.crc)
        return _dequantise(symbols, prior, positions)

    def _obey_record(self, level: np.ndarray) -> np.ndarray:
        count = int(self._reader.integers(1)[0])
        if count > len(level):
            raise CorruptStream("a boundary record is longer than its step: the data is damaged")
        where = np.cumsum(self._reader.integers(count) + 1) - 1
        upper = self._reader.bits(count)
        levels = np.floor(level).astype(np.int64)
        if count:
            if int(where[-1]) >= len(level):
                raise CorruptStream("a boundary record points past its step: the data is damaged")
            levels[where] = np.rint(level[where]).astype(np.int64) - np.where(upper, 0, 1)
        return levels
