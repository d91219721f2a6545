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
from dataclasses import dataclass, field
from typing import NamedTuple

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
from mambaic.config import ModelConfig
from mambaic.entropy_model.arithmetic import DoubleCopy
from mambaic.entropy_model.channel_group import ChannelGroup
from mambaic.entropy_model.hyperprior import HyperAnalysis, HyperSynthesis
from mambaic.errors import ConfigError, CorruptStream, DesyncError
from mambaic.nn.blocks import make_blocks
from mambaic.nn.gains import QualityCurve

_DESYNC = (
    "the decoded symbols are not the encoder's ({}), although the file is undamaged: this "
    "machine's arithmetic differs too much; decode with --device cpu"
)


class DecodedLatents(NamedTuple):
    """``y_hat`` (1, M, h, w), and weighted sums (1, n, h, w) of the squared errors to expect."""

    y_hat: Tensor
    error: Tensor


@dataclass(frozen=True)
class LatentStream:
    """One coded latent tile: bytes, the ideal length of its symbols in bits, and what they decode
    to."""

    payload: bytes
    estimated_bits: float
    decoded: DecodedLatents = field(compare=False)


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
        self.tables: Tables | None = None
        self._double = DoubleCopy()

    # -- the coding order ------------------------------------------------------------------

    def walk(self, z_shape: tuple[int, int], q: Tensor, coder: StepCoder) -> Tensor:
        """Visit every latent once, in coding order; return y_hat (B, M, 4 * z_h, 4 * z_w)."""
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

    def estimate(self, y: Tensor, q: Tensor) -> tuple[Tensor, Estimator]:
        """(y_hat, the estimator that has walked). Noisy and differentiable in training mode."""
        latents = {"y": y, "z": self.h_a(y, q).to(y.dtype)}
        estimator = self._estimator_class()(latents, self.mixture())
        z_shape = (latents["z"].shape[-2], latents["z"].shape[-1])
        return self.walk(z_shape, q, estimator), estimator

    def _estimator_class(self) -> type[Estimator]:
        if not self.training:
            return Estimator
        return NoiseEstimator if self.tables is None else TableEstimator

    # -- files -------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, y: Tensor, quality: float, weights: Tensor | None = None) -> LatentStream:
        """Code one latent tile (1, M, h, w), h and w multiples of 4, at ``quality``; ``weights``
        (M, n) of squared errors as in ``ErrorWatch``, none by default."""
        tables = self._ready()
        z = self.h_a(y, y.new_tensor([quality]))
        encoder = Encoder({"y": y, "z": z}, tables)
        size = y.shape[-2], y.shape[-1]
        decoded = self._walk_in_double(encoder, size, quality, weights)
        return LatentStream(*encoder.finish(), decoded)

    @torch.no_grad()
    def decode(
        self, payload: bytes, size: tuple[int, int], quality: float, weights: Tensor | None = None
    ) -> DecodedLatents:
        """Latents of a tile of ``size`` (h, w); ``weights`` as in ``encode``.

        Raises DesyncError if the symbols differ from the encoder's: never silent garbage.
        """
        decoder = Decoder(payload, self._ready())
        try:
            decoded = self._walk_in_double(decoder, size, quality, weights)
            decoder.finish()
        except CorruptStream as exc:
            # once a table is wrong, what follows is noise: the same cause as a wrong CRC
            raise DesyncError(_DESYNC.format(exc)) from exc
        return decoded

    def _walk_in_double(
        self, coder: StepCoder, size: tuple[int, int], quality: float, weights: Tensor | None
    ) -> DecodedLatents:
        if weights is None:
            weights = self.shape_logit.new_empty(self.config.M, 0)
        watch = ErrorWatch(coder, weights, size)
        q = weights.new_tensor([quality], dtype=torch.float64)
        y_hat = self._double.of(self).walk((size[0] // 4, size[1] // 4), q, watch)
        return DecodedLatents(y_hat.float(), watch.error)

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
