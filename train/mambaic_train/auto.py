"""``mambaic train --auto``: precision, CUDA graph and batch size, by images per second.

Trial steps on a copy of the model, for half a minute: each setting alone first, then batches of
twice the size while they pay. Kernels compile in the first trial, before the half minute begins.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import torch

from mambaic.models.model import MambaIC
from mambaic_train.batches import Batches
from mambaic_train.config import TrainConfig
from mambaic_train.crops import Crops
from mambaic_train.data import Photos
from mambaic_train.loop import Trainer

TRIALS_S = 30.0
TRIAL_S = 1.0  # of one setting, after its first step
LEAST_STEPS = 2
WORTH = 1.1  # times the images per second that a batch of twice the size has to give


class _Trial(Trainer):
    """Draws from the photographs that are in memory now, whatever the step."""

    batches: Batches

    def _crops(self, photos: Photos, count: int, size: int, share: slice) -> Crops:
        return self.batches.sample(count, size)


def images_per_second(
    model: MambaIC, config: TrainConfig, batches: Batches, device: torch.device
) -> float:
    """Of steps with the whole model, which stays as it is."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        trial = _Trial(copy.deepcopy(model), replace(config, warm_entropy=0.0), str(device))
        trial.batches = batches
        trial.run_step(batches.photos)
        _wait(trial)
        started, steps = time.perf_counter(), 0
        while steps < LEAST_STEPS or time.perf_counter() - started < TRIAL_S:
            trial.run_step(batches.photos)
            steps += 1
        _wait(trial)
        return steps * config.batch_at(config.crop) / (time.perf_counter() - started)


def _wait(trainer: Trainer) -> None:
    trainer.reports(all_of_them=True)
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)


class Choice:
    """The best of the settings that were tried so far."""

    def __init__(self, trainer: Trainer, photos: Photos) -> None:
        self._model, self._device, self._world = trainer.model, trainer.device, trainer.world
        self._batches = trainer.batches_of(photos)
        self.config, self.rate = trainer.config, self._rate(trainer.config)
        self._started = time.perf_counter()

    def try_other(self, config: TrainConfig, worth: float = 1.0) -> bool:
        """Whether ``config`` gives ``worth`` times the images, and is the choice from now on."""
        if config.batch % self._world.size or not self._in_time(config):
            return False
        try:
            rate = self._rate(config)
        except RuntimeError as exc:  # no memory for it, or a driver that records no graph
            self._say(config, f"{type(exc).__name__}: {str(exc).splitlines()[0]}")
            rate = 0.0
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        rate = -self._world.largest(-rate)  # where one of the processes fails, all do without
        if rate <= worth * self.rate:
            return False
        self.config, self.rate = config, rate
        return True

    def _in_time(self, config: TrainConfig) -> bool:
        spent = time.perf_counter() - self._started
        step_s = config.batch_at(config.crop) / self.rate
        return self._world.largest(spent + (1 + LEAST_STEPS) * step_s) <= TRIALS_S

    def _rate(self, config: TrainConfig) -> float:
        size = self._world.size
        own = replace(config, batch=config.batch // size)
        rate = size * images_per_second(self._model, own, self._batches, self._device)
        self._say(config, f"{rate:.1f} images/s")
        return rate

    def _say(self, config: TrainConfig, found: str) -> None:
        if self._world.leads:
            graph = ", CUDA graph" if config.cuda_graph else ""
            print(
                f"auto: {config.batch_at(config.crop)} crops of {config.crop} a step, "
                f"{config.precision}{graph}: {found}"
            )


def choose(trainer: Trainer, photos: Photos, given: Collection[str]) -> TrainConfig:
    """The trainer's settings with those that give the most images per second, but for ``given``
    ones; the trainer and the random state stay as they are."""
    choice = Choice(trainer, photos)
    for change in _changes(trainer.config, trainer.device, given):
        choice.try_other(replace(choice.config, **change))
    if "batch" not in given:
        while choice.try_other(replace(choice.config, batch=2 * choice.config.batch), WORTH):
            pass
    return choice.config


def _changes(
    config: TrainConfig, device: torch.device, given: Collection[str]
) -> Iterator[dict[str, Any]]:
    if "precision" not in given:
        yield {"precision": "fp32" if config.precision == "bf16" else "bf16"}
    if "cuda_graph" not in given and device.type == "cuda":
        yield {"cuda_graph": not config.cuda_graph}
