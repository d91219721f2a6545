"""A coded tile, what it decodes to, and what its finest colours are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from torch import Tensor

from mambaic.entropy_model.colour_blocks import Known


class ColourSource(Protocol):
    """What an encoder codes the finest colours of a tile from."""

    @property
    def known(self) -> Known: ...

    def missed(self, y_hat: Tensor, quality: float) -> Mapping[str, Tensor]:
        """What the decoded latents (1, M, h, w) leave of the finest colours, by the name of their
        latents, in steps of the quantiser."""


class DecodedLatents(NamedTuple):
    """``y_hat`` (1, M, h, w), weighted sums (1, n, h, w) of the squared errors to expect, and the
    finest colours as ``colour_blocks`` packs them, without channels where there are none."""

    y_hat: Tensor
    error: Tensor
    colours: Tensor

    @classmethod
    def of(cls, y_hat: Tensor, error: Tensor, colours: Tensor | None) -> DecodedLatents:
        return cls(y_hat, error, y_hat[:, :0] if colours is None else colours)


@dataclass(frozen=True)
class LatentStream:
    """One coded latent tile: bytes, the ideal length of its symbols in bits, and what they decode
    to."""

    payload: bytes
    estimated_bits: float
    decoded: DecodedLatents = field(compare=False)
