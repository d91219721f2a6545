"""Several pictures in one walk: they meet in the networks alone, which treat every picture of a
batch as if it were by itself. Each has an encoder or decoder, and so a payload, of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from mambaic.coding.decoder import Decoder
from mambaic.coding.encoder import Encoder
from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import Site
from mambaic.coding.step_coder import StepCoder, ordered_indices, residuals_and_indices, rows_like
from mambaic_kernels.threads import run


class BatchEncoder(StepCoder):
    """Writes the symbols of ``latents`` (B, ...), of every picture by its own encoder."""

    def __init__(self, encoders: Sequence[Encoder], latents: Mapping[str, Tensor]) -> None:
        self._encoders = encoders
        self._latents = latents

    def _code_sub_group(self, site: Site, prior: Prior) -> Tensor:
        residuals, indices = residuals_and_indices(site, self._latents[site.latent], prior)
        # one after the other: each search takes all threads
        found = [
            encoder.write(site, *of_picture)
            for encoder, *of_picture in zip(self._encoders, residuals, indices, strict=True)
        ]
        return rows_like(np.stack(found), prior.mean) + prior.mean


class BatchDecoder(StepCoder):
    """Reads the symbols of every picture by its own decoder, on as many threads as torch uses."""

    def __init__(self, decoders: Sequence[Decoder]) -> None:
        self._decoders = decoders

    def _code_sub_group(self, site: Site, prior: Prior) -> Tensor:
        indices = ordered_indices(prior.log_scale)
        found = np.empty(indices.shape, dtype=np.float32)

        def read(row: int, begin: int, end: int) -> None:
            found[row] = self._decoders[row].read(site, indices[row])

        run(read, [(row, row + 1) for row in range(len(indices))])
        return rows_like(found, prior.mean) + prior.mean
