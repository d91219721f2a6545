"""THE coding order, and its three uses: estimate, encode, decode.

      y --h_a--> z --[code z]--> z_hat --h_s--> state
                                                  |
    group 1:  state -> refine -> prior of the first lattice -> [code] -> of the next -> ... y_hat_1
              ([code] goes sub-group by sub-group of the channels: sub_groups.py)
    group 2:  state + absorb(y_hat_1) -> refine -> ...                                      y_hat_2
    ...                                               y_hat = concatenation of the groups

[Minnen2020] Channel-wise autoregressive models, arXiv:2007.08739.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mambaic.coding.decoder import Decoder
from mambaic.coding.encoder import Encoder
from mambaic.coding.estimator import Estimator, NoiseEstimator, TableEstimator
from mambaic.coding.expected_error import ErrorWatch
from mambaic.coding.likelihood import Prior, ScaleMixture
from mambaic.coding.sites import Site
from mambaic.coding.step_coder import StepCoder
from mambaic.coding.tables import Tables, build_tables
from mambaic.config import TRAINED, ModelConfig
from mambaic.entropy_model import colour_blocks
from mambaic.entropy_model.channel_group import ChannelGroup
from mambaic.entropy_model.colour_blocks import Known
from mambaic.entropy_model.fine_colour import FineColour
from mambaic.entropy_model.finer import FinerCoder, SmallScales
from mambaic.entropy_model.hyperprior import HyperAnalysis, HyperSynthesis
from mambaic.errors import ConfigError, CorruptStream, DesyncError
from mambaic.fixed_point.cached import CachedTwin
from mambaic.fixed_point.exactness import exact_arithmetic
from mambaic.fixed_point.twin import measuring, reach_count, twin
from mambaic.nn.blocks import make_blocks
from mambaic.nn.gains import QualityCurve, fineness, log_fineness

_DESYNC = (
    "the decoded symbols are not the encoder's ({}), although the file is undamaged: decode with "
    "--device cpu, and report it"
)


WALKED = ("h_s", "z_mean", "z_log_scale", "groups", "refine")  # the networks of the walk
UNMEASURED = 16.0  # reach of a layer that no photograph has been through


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


class FineNetworks(nn.Module):
    """What qualities beyond TRAINED and the finest colours take; trained after all the others,
    which stay as they are."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.scales = SmallScales(config.M)
        self.colour = FineColour(config)
        self.register_buffer("reaches", torch.full((reach_count(self),), UNMEASURED))


class EntropyModel(nn.Module):
    """Hyperprior and context model of y (B, M, h, w); h and w multiples of 4."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.h_a = HyperAnalysis(config)
        self.h_s = HyperSynthesis(config)
        self.z_mean = QualityCurve(config.rate_anchors, config.z_channels)
        self.z_log_scale = QualityCurve(config.rate_anchors, config.z_channels)
        self.groups = nn.ModuleList(ChannelGroup(config, k) for k in range(len(config.groups)))
        stacks = 1 if config.context_shared else len(config.groups)
        self.refine = nn.ModuleList(
            make_blocks(
                config.context_blocks, config.context_width, config, span=config.context_span
            )
            for _ in range(stacks)
        )
        # weight 0.85 and ratio 2.2: heavier tails than a Gaussian, as wavelet details have
        self.shape_logit = nn.Parameter(torch.tensor(1.73))
        self.shape_log_ratio = nn.Parameter(torch.tensor(0.8))
        self.fine: FineNetworks | None = FineNetworks(config) if config.fine_width else None
        self.tables: Tables | None = None
        self.register_buffer("reaches", torch.full((reach_count(self.walked()),), UNMEASURED))
        self._twin = CachedTwin(_fixed_point)

    # -- the coding order ------------------------------------------------------------------

    def walk(
        self, z_shape: tuple[int, int], q: Tensor, coder: StepCoder, *, beyond: bool = False
    ) -> Tensor:
        """Visit every latent once, in coding order; return y_hat (B, M, 4 * z_h, 4 * z_w).

        ``beyond``: some qualities q (B,) are beyond TRAINED, where the latents y that are coded are
        those of y_hat times ``fineness``. It must not be read from a GPU.
        """
        if beyond:
            assert self.fine is not None, "this model has no networks for such qualities"
            coder = FinerCoder(coder, log_fineness(self.config, q), self.fine.scales)
        site = Site("z", slice(0, self.config.z_channels))
        z_hat = site.lattice.put(coder.code_alone(site, self._z_prior(z_shape, q)), z_shape)
        state = self.h_s(z_hat, q)
        decoded: list[Tensor] = []
        for index, group in enumerate(self.groups):
            assert isinstance(group, ChannelGroup)
            state = group.state(state, decoded[-1] if decoded else None)
            support = group.modulate(self.refine[index % len(self.refine)](state), q)
            y_hat: Tensor | None = None
            for step in range(len(group.lattices)):
                y_hat = group.code(step, support, y_hat, q, coder)
            assert y_hat is not None
            decoded.append(group.refine(support, y_hat))
        return torch.cat(decoded, dim=1)

    def _z_prior(self, z_shape: tuple[int, int], q: Tensor) -> Prior:
        curves = (self.z_mean(q), self.z_log_scale(q))
        return Prior(*(curve.flatten(2).mT.expand(-1, math.prod(z_shape), -1) for curve in curves))

    # -- estimate ----------------------------------------------------------------------------

    def estimate(self, y: Tensor, q: Tensor, *, beyond: bool = False) -> tuple[Tensor, Estimator]:
        """(y_hat, the estimator that has walked). Noisy and differentiable in training mode;
        ``beyond`` as in ``walk``."""
        finer = fineness(self.config, q).to(y.dtype)[:, None, None, None]
        latents = {"y": y * finer, "z": self.h_a(y, q).to(y.dtype)}
        estimator = self._estimator_class()(latents, self.mixture())
        z_shape = (latents["z"].shape[-2], latents["z"].shape[-1])
        return self.walk(z_shape, q, estimator, beyond=beyond), estimator

    def _estimator_class(self) -> type[Estimator]:
        if not self.training:
            return Estimator
        return NoiseEstimator if self.tables is None else TableEstimator

    # -- files -------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(
        self,
        y: Tensor,
        quality: float,
        weights: Tensor | None = None,
        colours: ColourSource | None = None,
    ) -> LatentStream:
        """Code one latent tile (1, M, h, w), h and w multiples of 4, at the stretched ``quality``;
        ``weights`` (M, n) of squared errors as in ``ErrorWatch``, none by default; with ``colours``
        the finest ones where they pay."""
        tables = self._ready()
        q = y.new_tensor([quality])
        finer = fineness(self.config, q)[:, None, None, None]
        encoder = Encoder({"y": y * finer, "z": self.h_a(y, q)}, tables)
        with exact_arithmetic(y.device):
            y_hat, error = self._walk_in_fixed_point(encoder, y.shape[-2:], quality, weights)
            packed = None
            if colours is not None:
                missed = colours.missed(y_hat, quality)
                source = self._colour_networks(), colours.known, missed
                packed = colour_blocks.encode(*source, y_hat, quality, encoder)
        payload, bits = encoder.finish()
        return LatentStream(payload, bits, DecodedLatents.of(y_hat, error, packed))

    @torch.no_grad()
    def decode(
        self,
        payload: bytes,
        size: tuple[int, int],
        quality: float,
        weights: Tensor | None = None,
        known: Known | None = None,
    ) -> DecodedLatents:
        """Latents of a tile of ``size`` (h, w); ``weights`` as in ``encode``; what is ``known`` of
        the finest colours is given where the tile has some of them.

        Raises DesyncError if the symbols differ from the encoder's: never silent garbage.
        """
        decoder = Decoder(payload, self._ready())
        try:
            with exact_arithmetic(self.shape_logit.device):
                y_hat, error = self._walk_in_fixed_point(decoder, size, quality, weights)
                packed = None
                if known is not None:
                    networks = self._colour_networks()
                    packed = colour_blocks.decode(networks, known, y_hat, quality, decoder)
            decoder.finish()
        except CorruptStream as exc:
            # once a table is wrong, what follows is noise: the same cause as a wrong CRC
            raise DesyncError(_DESYNC.format(exc)) from exc
        return DecodedLatents.of(y_hat, error, packed)

    def _walk_in_fixed_point(
        self, coder: StepCoder, size: Sequence[int], quality: float, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """y_hat (1, M, h, w), and the ``ErrorWatch``'s sums."""
        if weights is None:
            weights = self.shape_logit.new_empty(self.config.M, 0)
        watch = ErrorWatch(coder, weights, (size[0], size[1]))
        q = weights.new_tensor([quality])
        walk = self._twin.of(self).walk
        y_hat = walk((size[0] // 4, size[1] // 4), q, watch, beyond=quality > TRAINED)
        return y_hat, watch.error

    def _colour_networks(self) -> FineColour:
        """In fixed point, as the walk."""
        fine = self._twin.of(self).fine
        assert fine is not None, "this model has no networks for the finest colours"
        return fine.colour

    # -- fixed point -------------------------------------------------------------------------

    def walked(self) -> nn.ModuleDict:
        """The networks of the walk, but for those of ``fine``."""
        return nn.ModuleDict({name: getattr(self, name) for name in WALKED})

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Set the reaches of the walk's layers to what they see meanwhile."""
        reaches = self.get_buffer("reaches")
        reaches.zero_()
        with measuring(self.walked(), reaches):
            yield

    # -- tables ------------------------------------------------------------------------------

    def mixture(self) -> ScaleMixture:
        """The mixture all latents share; differentiable."""
        weight, ratio = torch.sigmoid(self.shape_logit), torch.exp(self.shape_log_ratio)
        return ScaleMixture(weight, ratio, self.tables)

    def update(self, counts: np.ndarray | None = None) -> None:
        """Build the tables from the learned mixture, and from ``Estimator.counts`` of photographs
        if given: once, at the end of training."""
        mixture = self.mixture()
        weight, ratio = mixture.weight.item(), mixture.ratio.item()
        self.tables = build_tables(weight, ratio, counts)

    def _ready(self) -> Tables:
        if self.tables is None:
            raise ConfigError("this model has no coding tables yet: call update() after training")
        return self.tables


def _fixed_point(model: EntropyModel) -> EntropyModel:
    """The model with the fixed-point twins of all networks of the walk."""
    found = copy.copy(model)
    found._modules = dict(model._modules)
    for name, network in twin(model.walked(), model.get_buffer("reaches")).items():
        found.add_module(name, network)
    if model.fine is not None:
        found.add_module("fine", twin(model.fine, model.fine.get_buffer("reaches")))
    return found
