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

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from mambaic.coding.batch import BatchDecoder, BatchEncoder
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
from mambaic.entropy_model.streams import ColourSource, DecodedLatents, LatentStream
from mambaic.errors import ConfigError, CorruptStream, DesyncError
from mambaic.fixed_point.cached import CachedTwin
from mambaic.fixed_point.exactness import exact_arithmetic
from mambaic.fixed_point.layers import shallow_copy
from mambaic.fixed_point.twin import measuring, reach_count, twin
from mambaic.nn.blocks import make_blocks
from mambaic.nn.gains import QualityCurve, fineness, log_fineness

_DESYNC = (
    "the decoded symbols are not the encoder's ({}), although the file is undamaged: decode with "
    "--device cpu, and report it"
)


WALKED = ("h_s", "z_mean", "z_log_scale", "groups", "refine")  # the networks of the walk
UNMEASURED = 16.0  # reach of a layer that no photograph has been through


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
            log = log_fineness(self.config, q).to(self.shape_logit.device)
            coder = FinerCoder(coder, log, self.fine.scales)
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

    def encode(
        self,
        y: Tensor,
        quality: float,
        weights: Tensor | None = None,
        colours: ColourSource | None = None,
    ) -> LatentStream:
        """``encode_batch`` of one tile (1, M, h, w)."""
        return self.encode_batch(y, quality, weights, [colours])[0]

    @torch.no_grad()
    def encode_batch(
        self,
        y: Tensor,
        quality: float,
        weights: Tensor | None = None,
        colours: Sequence[ColourSource | None] = (),
    ) -> list[LatentStream]:
        """Code latent tiles (B, M, h, w), h and w multiples of 4, at the stretched ``quality``,
        each to the bytes that it has alone; ``weights`` (M, n) of squared errors as in
        ``ErrorWatch``, none by default; with ``colours`` the finest ones where they pay."""
        q = y.new_tensor([quality])
        # h_a is in floats, so that in a batch its numbers might be others
        z = torch.cat([self.h_a(of_tile, q) for of_tile in y.split(1)])
        latents = {"y": y * fineness(self.config, q)[:, None, None, None], "z": z}
        tables = self._ready()
        encoders = [
            Encoder({name: of[row : row + 1] for name, of in latents.items()}, tables)
            for row in range(len(y))
        ]
        with exact_arithmetic(y.device):
            coder = BatchEncoder(encoders, latents)
            walked = self._walk_in_fixed_point(coder, len(y), y.shape[-2:], quality, weights)
            found = []
            for row, (y_hat, error) in enumerate(walked):
                packed, source = None, colours[row] if colours else None
                if source is not None:
                    missed = source.missed(y_hat, quality)
                    of_tile = self._colour_networks(), source.known, missed, y_hat
                    packed = colour_blocks.encode(*of_tile, quality, encoders[row])
                found.append(DecodedLatents.of(y_hat, error, packed))
        return [
            LatentStream(*encoder.finish(), decoded)
            for encoder, decoded in zip(encoders, found, strict=True)
        ]

    def decode(
        self,
        payload: bytes,
        size: tuple[int, int],
        quality: float,
        weights: Tensor | None = None,
        known: Known | None = None,
    ) -> DecodedLatents:
        """``decode_batch`` of one tile."""
        return self.decode_batch([payload], size, quality, weights, [known])[0]

    @torch.no_grad()
    def decode_batch(
        self,
        payloads: Sequence[bytes],
        size: tuple[int, int],
        quality: float,
        weights: Tensor | None = None,
        known: Sequence[Known | None] = (),
    ) -> list[DecodedLatents]:
        """Latents of tiles of ``size`` (h, w); ``weights`` as in ``encode_batch``; what is
        ``known`` of the finest colours is given where a tile has some of them. Raises DesyncError
        if symbols differ from the encoder's: never silent garbage.
        """
        tables, count = self._ready(), len(payloads)
        try:
            decoders = [Decoder(payload, tables) for payload in payloads]
            with exact_arithmetic(self.shape_logit.device):
                coder = BatchDecoder(decoders)
                found = []
                walked = self._walk_in_fixed_point(coder, count, size, quality, weights)
                for row, (y_hat, error) in enumerate(walked):
                    packed, of_tile = None, known[row] if known else None
                    if of_tile is not None:
                        networks = self._colour_networks(), of_tile
                        packed = colour_blocks.decode(*networks, y_hat, quality, decoders[row])
                    found.append(DecodedLatents.of(y_hat, error, packed))
            for decoder in decoders:
                decoder.finish()
        except CorruptStream as exc:
            # once a table is wrong, what follows is noise: the same cause as a wrong CRC
            raise DesyncError(_DESYNC.format(exc)) from exc
        return found

    def _walk_in_fixed_point(
        self,
        coder: StepCoder,
        batch: int,
        size: Sequence[int],
        quality: float,
        weights: Tensor | None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """y_hat (1, M, h, w) of every tile, and the ``ErrorWatch``'s sums."""
        if weights is None:
            weights = self.shape_logit.new_empty(self.config.M, 0)
        watch = ErrorWatch(coder, weights, (size[0], size[1]), batch)
        q = torch.full((batch,), quality, dtype=torch.float32)  # read on the host
        walk = self._twin.of(self).walk
        y_hat = walk((size[0] // 4, size[1] // 4), q, watch, beyond=quality > TRAINED)
        return zip(y_hat.split(1), watch.error.split(1), strict=True)

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
    found = shallow_copy(model)
    for name, network in twin(model.walked(), model.get_buffer("reaches")).items():
        found.add_module(name, network)
    if model.fine is not None:
        reaches, levels = model.fine.get_buffer("reaches"), model.config.fine_levels
        found.add_module("fine", twin(model.fine, reaches, levels))
    return found
