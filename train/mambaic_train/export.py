"""What a run leaves behind: the last checkpoint, the best one, and their model cards."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mambaic import checkpoint
from mambaic.codec import Codec
from mambaic.config import ModelConfig
from mambaic.errors import CheckpointError
from mambaic.imaging.image import Picture
from mambaic.models.tuning import beside
from mambaic_train.batches import draw_crops
from mambaic_train.card import run_facts, write_card
from mambaic_train.config import TrainConfig
from mambaic_train.crops import to_input
from mambaic_train.data import Photos
from mambaic_train.loop import Trainer
from mambaic_train.loss import draw_qualities
from mambaic_train.validate import QUALITIES, QUICK_QUALITIES, RDPoint, rd_points, score

LAST, BEST = "checkpoint", "best"
TABLE_BATCHES, TABLE_CROPS = 6, 16  # what the coding tables of an export are fitted to
KEPT_CROPS = 4  # what the reaches of layers are measured on meanwhile


def table_batches(
    photos: Photos,
    model: ModelConfig,
    train: TrainConfig,
    batches: int,
    crops: int,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Tensor, Tensor]]:
    """``crops`` at all qualities of a run to a batch, drawn without touching its random state."""
    rng = np.random.default_rng(train.seed)
    generator = torch.Generator().manual_seed(train.seed)
    for _ in range(batches):
        of_photos = draw_crops(photos, crops, train.large_crop, rng)
        q = draw_qualities(crops, model, train, generator)
        yield to_input(of_photos, device), q.to(device)


class Exporter:
    """Writes OUT/checkpoint from the averaged weights; with validation pictures also OUT/best, the
    one of the lowest score so far (also over resumed calls)."""

    def __init__(
        self, out: Path, photos: Photos, paths: Sequence[Path], pictures: Sequence[Picture]
    ) -> None:
        self.out, self.photos, self.paths, self.pictures = out, photos, paths, pictures

    def write(self, trainer: Trainer, *, final: bool) -> list[RDPoint]:
        """Export, measure (at all qualities if ``final``) and keep the better of this and the best.

        Raises CheckpointError if the disk does not take it; what was there stays.
        """
        facts = self._save(trainer, fit=True)
        codec = Codec(checkpoint.load_model(self.out / LAST, trainer.device))
        quick: list[RDPoint] = []
        points: list[RDPoint] = []
        if self.pictures:
            lmbda, config = trainer.config.lmbda, codec.model.config
            fixed = None if lmbda is None else (config.quality_of(lmbda),)
            tune = 1.0 if trainer.psnr else 0.0
            quick = rd_points(codec, self.pictures, fixed or QUICK_QUALITIES, tune)
            facts["score"] = round(score(quick, config, trainer.config), 6)
            if final:
                points = quick if fixed else rd_points(codec, self.pictures, QUALITIES, tune)
            if facts["score"] < self._best_score():
                checkpoint.save_model(codec.model, self.out / BEST, facts)
                write_card(codec.model.weights_id.hex(), self.out / BEST, facts, points or quick)
        write_card(codec.model.weights_id.hex(), self.out / LAST, facts, points or quick)
        return quick

    def keep(self, trainer: Trainer) -> None:
        """Export in seconds: with coding tables as they were, and without a measurement.

        Raises CheckpointError as ``write``.
        """
        facts = self._save(trainer, fit=False)
        weights_id = checkpoint.read_config(self.out / LAST)["weights_id"]
        write_card(weights_id, self.out / LAST, facts, [])

    def _save(self, trainer: Trainer, *, fit: bool) -> dict[str, Any]:
        """Write OUT/checkpoint, its tables fitted to crops or not; facts of the run."""
        facts = run_facts(trainer, self.photos, self.paths)
        with trainer.averaged(keep_tables=not fit) as model:
            of_run = self.photos, model.config, trainer.config
            count = (TABLE_BATCHES, TABLE_CROPS) if fit else (1, KEPT_CROPS)
            batches = table_batches(*of_run, *count, trainer.device)
            if trainer.psnr or not fit:
                model.measure(batches)
            else:
                model.fit_tables(batches)
            if trainer.psnr:
                model = beside(model, trainer.psnr)
            checkpoint.save_model(model, self.out / LAST, facts)
        return facts

    def _best_score(self) -> float:
        try:
            return float(checkpoint.read_config(self.out / BEST)["card"]["score"])
        except (CheckpointError, KeyError):
            return math.inf
