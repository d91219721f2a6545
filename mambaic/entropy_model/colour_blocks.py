"""Which blocks of a tile have the finest colours, and coding them block by block.

A bit says of every block whether it has them. A block is coded by itself: memory stays bounded,
and what has none of them takes no time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mambaic.coding.decoder import Decoder
from mambaic.coding.encoder import Encoder
from mambaic.coding.step_coder import StepCoder
from mambaic.entropy_model.fine_colour import CODED, NAMES, FineColour, Level

BLOCK = 32  # side in latents
AROUND = 2  # latents around a block whose edges reach into it
PER_LATENT = {level: 16 >> level for level in CODED}  # coefficients of a band along its side
PACKED_COLOURS = sum(len(CODED[level]) * PER_LATENT[level] ** 2 for level in CODED)
# Bits that a squared error of one quantiser step is worth: error_weight * linear_step**2, which is
# the same at every quality.
WORTH = 18.0 / (3.0 * math.log(2.0))
# Coding a block never paid where its coefficients that are worth more than BITS are worth less than
# LEAST_GAIN bits beyond that, or than LEAST_SHARE of what is worth more than FEW_BITS.
BITS, FEW_BITS = 5.0, 2.0
LEAST_GAIN, LEAST_SHARE = 64.0, 0.35


class Known(NamedTuple):
    """What is known of the finest colours before they are coded, ``lag`` qualities more coarsely
    than the picture: in steps that are ``coarser`` times those of the picture.

    ``levels`` makes it of latents (1, M, h, w) at a quality, in such steps.
    """

    levels: Callable[[Tensor, float, float], Mapping[int, Level]]
    lag: float
    coarser: float


def pack(bands: Mapping[str, Tensor]) -> Tensor:
    """Bands of both levels, by name, as channels of the latents' size (B, PACKED_COLOURS, h, w)."""
    parts = [F.pixel_unshuffle(bands[NAMES[level]], PER_LATENT[level]) for level in CODED]
    return torch.cat(parts, dim=1)


def unpack(packed: Tensor) -> dict[int, Tensor]:
    """Inverse of ``pack``, by level."""
    counts = [len(CODED[level]) * PER_LATENT[level] ** 2 for level in CODED]
    parts = packed.split(counts, dim=1)
    return {
        level: F.pixel_shuffle(part, PER_LATENT[level])
        for level, part in zip(CODED, parts, strict=True)
    }


def promising(wanted: Mapping[str, Tensor], least_share: float = LEAST_SHARE) -> bool:
    """Whether coding these bands of a block may pay, in steps of the quantiser: most of what is to
    gain must be in few large coefficients, as many small ones cost what they are worth."""
    worth = torch.cat([WORTH * bands.square().flatten() for bands in wanted.values()])
    gain, bound = (float((worth - bits).clamp(min=0.0).sum()) for bits in (BITS, FEW_BITS))
    return gain > max(LEAST_GAIN, least_share * bound)


def encode(
    networks: FineColour,
    known: Known,
    missed: Mapping[str, Tensor],
    y_hat: Tensor,
    quality: float,
    encoder: Encoder,
) -> Tensor | None:
    """Code the blocks of a tile in which it pays; ``missed`` are the bands that it would take to
    draw the picture exactly, in steps of the picture. What is decoded, packed, in the same steps;
    None, and nothing written, if it never does."""
    start = encoder.mark()
    found = y_hat.new_zeros(1, PACKED_COLOURS, *y_hat.shape[-2:])
    pays = False
    for block in _blocks(y_hat):
        wanted = {name: _part(bands, block, y_hat) for name, bands in missed.items()}
        if not promising(wanted):
            encoder.flag(False)
            continue
        before = encoder.mark()
        encoder.flag(True)
        encoder.latents.update({name: of / known.coarser for name, of in wanted.items()})
        decoded = _code(networks, known, y_hat, block, quality, encoder)
        saved = sum(
            float((of.square() - (of - decoded[name]).square()).sum())
            for name, of in wanted.items()
        )
        if WORTH * saved > encoder.bits_since(before):
            found[..., block[0].own, block[1].own] = pack(decoded)
            pays = True
        else:
            encoder.undo(before)
            encoder.flag(False)
    if pays:
        return found
    encoder.undo(start)
    return None


def decode(
    networks: FineColour, known: Known, y_hat: Tensor, quality: float, decoder: Decoder
) -> Tensor:
    """What ``encode`` returned."""
    found = y_hat.new_zeros(1, PACKED_COLOURS, *y_hat.shape[-2:])
    for block in _blocks(y_hat):
        if decoder.flag():
            decoded = _code(networks, known, y_hat, block, quality, decoder)
            found[..., block[0].own, block[1].own] = pack(decoded)
    return found


class Span(NamedTuple):
    """Rows or columns of latents of a block, and those around it that it is coded with."""

    own: slice
    outer: slice

    def inner(self, factor: int) -> slice:
        """Where the block lies within what is around it, where a latent is ``factor`` wide."""
        first = self.own.start - self.outer.start
        return slice(factor * first, factor * (first + self.own.stop - self.own.start))

    def scaled(self, factor: int) -> slice:
        """Where the block lies in its tile."""
        return slice(factor * self.own.start, factor * self.own.stop)


def _spans(length: int) -> list[Span]:
    return [
        Span(
            slice(first, min(first + BLOCK, length)),
            slice(max(0, first - AROUND), min(first + BLOCK + AROUND, length)),
        )
        for first in range(0, length, BLOCK)
    ]


def _blocks(y_hat: Tensor) -> Iterator[tuple[Span, Span]]:
    return itertools.product(_spans(y_hat.shape[-2]), _spans(y_hat.shape[-1]))


def _code(
    networks: FineColour,
    known: Known,
    y_hat: Tensor,
    block: tuple[Span, Span],
    quality: float,
    coder: StepCoder,
) -> dict[str, Tensor]:
    rows, columns = block
    levels = {}
    around = y_hat[..., rows.outer, columns.outer]
    for level, of in known.levels(around, quality, known.lag).items():
        factor = PER_LATENT[level]
        edges, bands = (part[..., rows.inner(factor), columns.inner(factor)] for part in of)
        levels[level] = Level(edges, bands)
    q = torch.tensor([quality - known.lag], dtype=torch.float32)  # read on the host
    decoded = networks.walk(levels, q, coder)
    return {name: known.coarser * bands for name, bands in decoded.items()}


def _part(bands: Tensor, block: tuple[Span, Span], y_hat: Tensor) -> Tensor:
    rows, columns = block
    factor = bands.shape[-1] // y_hat.shape[-1]
    return bands[..., rows.scaled(factor), columns.scaled(factor)].to(y_hat)
