"""MambaIC: transforms around one entropy model.

    x --g_a--> y --[EntropyModel.walk: z, then groups x parities]--> y_hat --g_s--> x_hat

[Zeng2025] MambaIC: State Space Models for High-Performance Learned Image Compression, CVPR 2025,
arXiv:2503.12461. Preset ``paper`` follows it; ``s`` and ``b`` keep the method at a size that runs
on a laptop, with any rate in one model.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mambaic.coding.estimator import Estimator
from mambaic.config import ModelConfig
from mambaic.entropy_model.channel_group import ChannelGroup
from mambaic.entropy_model.colour_blocks import PACKED_COLOURS, Known
from mambaic.entropy_model.walk import EntropyModel
from mambaic.fixed_point.byte_networks import with_bytes
from mambaic.fixed_point.byte_products import exact_bytes
from mambaic.fixed_point.cached import CachedTwin
from mambaic.models.published_transforms import ConvTransform
from mambaic.models.wavelet_transforms import WaveletTransform
from mambaic.nn.gains import linear_step

TABLE_PASSES = 3
COLOUR_CHANNELS = PACKED_COLOURS  # of decoded latents with the finest colours


def joined_ids(*ids: bytes) -> bytes:
    """One id for all of them, whatever their order: their exclusive or."""
    size = max(map(len, ids))
    total = 0
    for one in ids:
        total ^= int.from_bytes(one, "big")
    return total.to_bytes(size, "big")


class TrainOutput(NamedTuple):
    """x_hat (B, 3, H, W), estimated bits per image (B,), and the estimator for details."""

    x_hat: Tensor
    bits: Tensor
    estimator: Estimator


class MambaIC(nn.Module):
    """The codec's networks. Sides of x are multiples of 64; q (B,) are qualities in [0, 100]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.transform: WaveletTransform | ConvTransform
        wavelet = config.transform == "wavelet"
        self.transform = WaveletTransform(config) if wavelet else ConvTransform(config)
        self.entropy_model = EntropyModel(config)
        self.eye: dict[str, Tensor] = {}  # parameters at tune 1: ``mambaic.models.tuning``
        self.tune = 0.0  # that it codes at
        # set by checkpoint.py: what names the weights in every file, and what is joined to it in
        # files that need networks of later times, or those for the eye
        self.weights_id = b""
        self.fine_id = b""
        self.tune_id = b""
        self._in_bytes: CachedTwin[Any] = CachedTwin(with_bytes)
        self._typical_from_deviation()

    @property
    def coding_transform(self) -> WaveletTransform | ConvTransform:
        """``transform`` for coding one picture, without gradients: on CPUs that have them by
        products of bytes."""
        on_cpu = next(self.parameters()).device.type == "cpu"
        if not (on_cpu and exact_bytes()):
            return self.transform
        found: WaveletTransform | ConvTransform = self._in_bytes.of(self.transform)
        return found

    def g_a(self, x: Tensor, q: Tensor, *, beyond: bool = False) -> Tensor:
        """``beyond``: some qualities are beyond TRAINED."""
        return self.transform.g_a(x, q, beyond=beyond)

    def g_s(self, y_hat: Tensor, q: Tensor) -> Tensor:
        return self.transform.g_s(y_hat, q)

    def forward(self, x: Tensor, q: Tensor) -> TrainOutput:
        """Estimated rate and reconstruction; noise-relaxed and differentiable in training mode."""
        y = self.g_a(x, q)
        y_hat, estimator = self.entropy_model.estimate(y, q)
        return TrainOutput(self.g_s(y_hat, q), estimator.bits(), estimator)

    def cost(
        self, y_hat: Tensor, estimator: Estimator, x: Tensor, q: Tensor, weight: float
    ) -> Tensor:
        """Bits of latents plus weighted error of their reconstruction, summed over pictures, ()
        float.

        x (B, 3, H, W), without what the latents say of pixels beyond; ``weight`` bits for a squared
        error.
        """
        x_hat = self.g_s(y_hat, q)[..., : x.shape[2], : x.shape[3]]
        return estimator.bits().sum() + weight * (x_hat - x).square().sum()

    def id_of(self, *, fine: bool) -> bytes:
        """The id of the weights that a file needs."""
        return joined_ids(self.weights_id, self.fine_id) if fine else self.weights_id

    def known_colours(self, lag: float) -> Known:
        """Of a model with networks for the finest colours; ``lag`` as in ``Known``."""
        assert isinstance(self.transform, WaveletTransform)
        coarser = linear_step(self.config, -lag) / linear_step(self.config, 0.0)
        return Known(self.transform.known_colours, lag, coarser)

    @torch.no_grad()
    def error_weights(self, quality: float) -> Tensor:
        """What squared errors of latents add to those of pixels, (M, n): for ``ErrorWatch``."""
        q = next(self.parameters()).new_tensor([quality])
        return self.transform.error_weights(q)

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Fit what has a closed form to photographs: colour axes, kept channels, first scales."""
        if isinstance(self.transform, WaveletTransform):
            self.transform.wavelet.calibrate(x)
            self._typical_from_deviation()

    @torch.no_grad()
    def measure(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Set the reaches of the walk's layers to what photographs, (x, q) as in ``forward``, show:
        in eval mode, with tables."""
        self._measure((self.g_a(x, q), q) for x, q in batches)

    def _measure(self, latents: Iterable[tuple[Tensor, Tensor]]) -> None:
        with self.entropy_model.measuring():
            for y, q in latents:
                self.entropy_model.estimate(y, q)

    @torch.no_grad()
    def fit_tables(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Move the coding tables to the symbols of photographs, (x, q) as in ``forward``, after
        ``measure``.

        In eval mode, with tables; see ``mambaic.coding.tables``. In TABLE_PASSES, as the paths that
        TCQ takes depend on the tables.
        """
        latents = [(self.g_a(x, q), q) for x, q in batches]
        self._measure(latents)
        for _ in range(TABLE_PASSES):
            counts = [self.entropy_model.estimate(y, q)[1].counts() for y, q in latents]
            self.entropy_model.update(np.sum(counts, axis=0))

    @torch.no_grad()
    def _typical_from_deviation(self) -> None:
        """Start every prior at its channel's own deviation in units of the quantiser step."""
        if not isinstance(self.transform, WaveletTransform):
            return
        anchors = self.config.rate_anchors
        for row, quality in enumerate(np.linspace(0, 100, anchors).tolist()):
            step = linear_step(self.config, quality)
            deviation = self.transform.wavelet.get_buffer("deviation")
            log_scale = torch.log(deviation / step).clamp(-3, 5)
            for group in self.entropy_model.groups:
                assert isinstance(group, ChannelGroup)
                group.typical.values[row].copy_(log_scale[group.channels])
