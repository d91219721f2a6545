"""The mean of checkpoints, as a checkpoint, and what is fitted to photographs at the end.

Runs that begin at the same weights end in one valley, and between them it can be a little deeper
([Wortsman2022] Model soups, arXiv:2203.05482).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from mambaic import checkpoint
from mambaic.errors import ConfigError
from mambaic.models.model import MambaIC
from mambaic_train.config import TrainConfig
from mambaic_train.data import PhotoSet, rotate_as_encoded
from mambaic_train.export import TABLE_CROPS, table_batches

BATCHES = 24  # that tables are fitted to: once, so more of them than at every export of a run


def average(names: Sequence[str], data: Sequence[Path], out: Path, seed: int = 0) -> bytes:
    """Write the mean of the checkpoints ``names`` (shipped names or folders) to the folder ``out``,
    its coding tables fitted to crops of the photographs ``data``; returns its weights id.

    Raises ConfigError for checkpoints without a mean and for an ``out`` that exists.
    """
    if out.exists():
        raise ConfigError(f"{out} exists: give another --out")
    model = mean_model([checkpoint.load_model(name) for name in names])
    photos = PhotoSet(tuple(data), min_side=64)
    rotate_as_encoded(photos, model)
    config = TrainConfig(steps=1, crop=256, large_crop=256, seed=seed)
    model.entropy_model.update()
    model.fit_tables(table_batches(photos, model.config, config, BATCHES, TABLE_CROPS))
    card = {"mean_of": [checkpoint.read_config(name)["weights_id"] for name in names], "seed": seed}
    checkpoint.save_model(model, out, card)
    return bytes.fromhex(checkpoint.read_config(out)["weights_id"])


@torch.no_grad()
def mean_model(models: Sequence[MambaIC]) -> MambaIC:
    """The first of ``models`` with the mean of all weights, without tables.

    Raises ConfigError unless all have one configuration and one wavelet basis.
    """
    first = models[0]
    buffers = dict(first.named_buffers())
    for model in models[1:]:
        if model.config != first.config or not all(
            torch.equal(value, buffers[name]) for name, value in model.named_buffers()
        ):
            raise ConfigError("only checkpoints that come from the same weights have a mean")
    weights = [dict(model.named_parameters()) for model in models]
    for name, parameter in first.named_parameters():
        parameter.copy_(torch.stack([own[name] for own in weights]).mean(dim=0))
    first.entropy_model.tables = None
    return first
