"""The three interpreters of the coding order: estimate bits, write symbols, read symbols.

The scale level of a latent picks its table and so must be the same in encoder and decoder although
their arithmetic differs in the last bits. Files are therefore coded in float64, and the encoder
records the latents whose position lies within MARGIN of a level boundary: there the decoder obeys
the record, which comes first.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
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


# from the values of a slice, rows (B, n, C), the slice that comes next in the same step and the
# prior of its first ``trellis.LOOK`` positions
Ahead = Callable[[Tensor], tuple[Site, Prior]]


class StepCoder(Protocol):
    """What drives the walk over the coding order."""

    def code(self, site: Site, prior: Prior, ahead: Ahead | None = None) -> Tensor:
        """Code the latents at ``site``; return their dequantised values, rows (B, n, C) as the
        prior's. An encoder may look ``ahead``."""


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

    In training, walk and synthesis see the quantised latents. Where the model has tables the rate
    is that of files (``Shape.relaxed_bits``), and gradients reach latents and means as far as what
    is quantised may be expected to follow them (``trellis.response``). Before, the rate is that of
    noisy latents, and gradients go straight through ([Minnen2020], arXiv:2007.08739, Sec. 3.3).
    """

    def __init__(
        self,
        latents: Mapping[str, Tensor],
        shape: Shape,
        *,
        training: bool,
        width: float = trellis.WIDTH,
    ) -> None:
        """``width`` of the response to residuals in training."""
        self._latents = latents
        self._shape = shape
        self._training = training
        self._width = width
        self._steps: dict[str, list[Part]] = {}
        self._sources: dict[tuple[str, int, Lattice], tuple[Tensor, ...]] = {}
        self._search: trellis.Search | None = None

    def code(self, site: Site, prior: Prior, ahead: Ahead | None = None) -> Tensor:
        residual = self._source(site) - prior.mean
        if self._training and self._shape.tables is not None and trellis.has_trellis(site):
            residual = self._followed(residual, prior)
        priced, kind, quantised = self.quantise(site, residual, prior, ahead)
        step = Part(priced, prior.log_scale, kind, residual / trellis.spacing(site.latent))
        steps = self._steps.setdefault(site.latent, [])
        steps.append(Part(*(rows.flatten(1) for rows in step)))
        return quantised + prior.mean

    def _followed(self, residual: Tensor, prior: Prior) -> Tensor:
        """The residual with the gradient of what is quantised; what a file leaves out has none."""
        fixed = residual.detach()
        slope = trellis.response(fixed / trellis.SPACING, self._width)
        slope = slope.masked_fill(self._shape.skipped(prior.log_scale), 0.0)
        return fixed + slope * (residual - fixed)

    def _source(self, site: Site) -> Tensor:
        """The latents at a site. All slices of a step are taken at once: the gradient of every cut
        is a map of all latents."""
        step = site.of or site
        width = site.channels.stop - site.channels.start
        key = (step.latent, step.channels.start, step.lattice)
        if key not in self._sources:
            self._sources[key] = step.take(self._latents[site.latent]).split(width, dim=-1)
        return self._sources[key][(site.channels.start - step.channels.start) // width]

    def quantise(
        self, site: Site, residual: Tensor, prior: Prior, ahead: Ahead | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Residuals as they are priced, their tables, and as walk and synthesis see them."""
        if self._training and residual.device.type != "cpu":
            prices = self._shape.quantiser_prices_on(residual.device)
            rows = residual.detach(), prior.log_scale.detach()
            symbols, kind = trellis.quantise_on_gpu(site, *rows, prices)
        else:
            # in training a latent that a file leaves out is priced as if rounded by itself: at 0 it
            # could not learn that it is worth its bits; and nobody looks ahead
            look = None if self._training else _look(ahead, self._source, prior.mean)
            if self._search is None:
                tables = self._shape.prices, self._shape.skip
                self._search = trellis.Search(len(residual), *tables, rounded=self._training)
            rows = residual, prior.log_scale
            if self._training:  # a step of numbers that are none is skipped, but only at its end
                rows = rows[0].nan_to_num(), rows[1].nan_to_num()
            found = self._search.find(site, _residuals(rows[0]), _levels(rows[1]), look)
            symbols, kind = (_as_rows(part, prior.mean) for part in found)
            symbols = symbols.to(residual.dtype)
        quantised = values(symbols, kind)
        if not self._training:
            return symbols, kind, quantised
        if self._shape.tables is None:
            priced = residual / trellis.spacing(site.latent) + torch.rand_like(residual) - 0.5
        else:
            priced = quantised / trellis.spacing(site.latent)
            if trellis.has_trellis(site):
                quantised = quantised.masked_fill(self._shape.skipped(prior.log_scale), 0.0)
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


def _residuals(rows: Tensor) -> np.ndarray:
    """Rows (B, n, C) in coding order, (B, C * n) float64."""
    return in_order(rows.detach()).double().cpu().numpy()


def _level_positions(log_scale: Tensor) -> np.ndarray:
    return level_position(in_order(log_scale.detach()).double()).cpu().numpy()


def _levels(log_scale: Tensor) -> np.ndarray:
    return np.floor(_level_positions(log_scale)).astype(np.int64)


def _as_rows(ordered: np.ndarray, like: Tensor) -> Tensor:
    """Numbers (B, C * n) in coding order as rows, on the device of the rows ``like``."""
    return as_rows(torch.from_numpy(ordered), like.shape[-1]).to(like.device)


def _look(
    ahead: Ahead | None, source: Callable[[Site], Tensor], mean: Tensor
) -> trellis.Look | None:
    """What ``Search`` asks for, of the slice after one whose means are ``mean``; ``source`` gives
    the latents at a site."""
    if ahead is None:
        return None

    def look(symbols: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        site, prior = ahead(_dequantise(symbols, kinds, mean))
        first = trellis.beginning(source(site)) - trellis.beginning(prior.mean)
        return _residuals(first), _levels(trellis.beginning(prior.log_scale))

    return look


def _dequantise(symbols: np.ndarray, kinds: np.ndarray, mean: Tensor) -> Tensor:
    """Latents, rows (B, n, C), of symbols in coding order; the same for encoder and decoder."""
    return values(_as_rows(symbols, mean).to(mean.dtype), _as_rows(kinds, mean)) + mean


class Encoder:
    """Interprets the walk by writing symbols."""

    def __init__(self, latents: Mapping[str, Tensor], tables: Tables) -> None:
        self._latents = latents
        self._tables = tables
        self._writer = SymbolWriter(tables)
        self._search = trellis.Search(1, tables.prices, tables.skip)
        self._crc = 0
        self._count = 0  # of latents coded so far
        self._near: list[np.ndarray] = []
        self._sides: list[np.ndarray] = []

    def code(self, site: Site, prior: Prior, ahead: Ahead | None = None) -> Tensor:
        level = _level_positions(prior.log_scale)[0]
        levels = np.floor(level).astype(np.int64)
        self._record(level, levels)
        state, look = self._search.state(site), _look(ahead, self._source, prior.mean)
        residual = _residuals(self._source(site) - prior.mean)
        symbols, kinds = self._search.find(site, residual, levels[None], look)
        self._writer.symbols(symbols[0], levels, trellis=trellis.has_trellis(site), state=state)
        self._crc = zlib.crc32(symbols.astype("<i4").tobytes(), self._crc)
        return _dequantise(symbols, kinds, prior.mean)

    def _source(self, site: Site) -> Tensor:
        return site.take(self._latents[site.latent]).double()

    def _record(self, level: np.ndarray, levels: np.ndarray) -> None:
        """Keep which latents lie near a boundary, and on which side of it."""
        boundary = np.rint(level)
        near = np.abs(level - boundary) < MARGIN
        near &= (boundary >= max(1, self._tables.skip)) & (boundary < LEVELS)
        where = np.flatnonzero(near)
        self._near.append(self._count + where)
        self._sides.append(levels[where] >= boundary[where])
        self._count += len(level)

    def finish(self) -> tuple[bytes, float]:
        """The payload, and the ideal length of its symbols in bits."""
        where = np.concatenate(self._near)
        stream = SymbolWriter(self._tables)
        stream.numbers(np.array([len(where)]))
        stream.numbers(np.diff(where, prepend=-1) - 1)
        stream.bits(np.concatenate(self._sides))
        stream.append(self._writer)
        return stream.finish(self._crc), self._writer.bits_written()


class Decoder:
    """Interprets the walk by reading symbols."""

    def __init__(self, payload: bytes, tables: Tables) -> None:
        self._reader = SymbolReader(payload, tables)
        self._paths = trellis.Paths(1, tables.skip)
        self._crc = 0
        self._count = 0
        recorded = int(self._reader.numbers(1)[0])
        if recorded > 4 * len(payload):  # each takes two bits or more
            raise CorruptStream("the boundary record is longer than its tile: the data is damaged")
        self._near = np.cumsum(self._reader.numbers(recorded) + 1) - 1
        self._sides = self._reader.bits(recorded)

    def code(self, site: Site, prior: Prior, ahead: Ahead | None = None) -> Tensor:
        levels = self._obey_record(_level_positions(prior.log_scale)[0])
        state = self._paths.state(site)
        symbols = self._reader.symbols(levels, trellis=trellis.has_trellis(site), state=state)
        self._crc = zlib.crc32(symbols.astype("<i4").tobytes(), self._crc)
        kinds = self._paths.follow(site, symbols, levels, state)
        return _dequantise(symbols[None], kinds[None], prior.mean)

    def _obey_record(self, level: np.ndarray) -> np.ndarray:
        first, self._count = self._count, self._count + len(level)
        recorded = slice(*np.searchsorted(self._near, (first, self._count)))
        where = self._near[recorded] - first
        levels = np.floor(level).astype(np.int64)
        below = np.where(self._sides[recorded], 0, 1)
        sides = np.rint(level[where]).astype(np.int64) - below
        levels[where] = np.clip(sides, 0, LEVELS - 1)  # damage may claim a boundary at the ends
        return levels

    def finish(self) -> None:
        """Raises CorruptStream unless the payload ends here, and the symbols are the encoder's."""
        crc = self._reader.finish()
        if len(self._near) and self._near[-1] >= self._count:
            raise CorruptStream("the boundary record points past its tile: the data is damaged")
        if crc != self._crc:
            raise CorruptStream(f"their CRC is {self._crc:08x} instead of {crc:08x}")
