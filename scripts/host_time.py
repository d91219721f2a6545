"""Host time of a training step: what Python and the dispatcher take, whatever the device.

    python scripts/host_time.py [--rounds 30] [--width 8]

Timed on a CPU with a model that has the layers of ``s``, all of them narrow, on one small crop: its
kernels take next to nothing, so what is left is an upper bound of the host's share on a GPU. Twice:
as the step is, and with forward and backward pass recorded (``--cuda-graph``), which then are one
call of the host; crops, clipping, optimiser, average and reports are the same.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mambaic.config import PRESETS, ModelConfig
from mambaic.models.model import MambaIC
from mambaic_train import graph
from mambaic_train.config import TrainConfig
from mambaic_train.data import PhotoSet
from mambaic_train.loop import Trainer


def narrow(config: ModelConfig, width: int) -> ModelConfig:
    """The layers of ``config``, each of ``width`` channels where it has a choice."""
    return replace(
        config, width8=width, width16=width, z_channels=width, context_width=width,
        slice_width=width,
    )  # fmt: skip


def recorded_once(run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """As ``graph.record``: a replay costs the host nothing but its call."""
    figures = run()
    return lambda: None, figures


def median_ms(trainer: Trainer, photos: PhotoSet, rounds: int) -> float:
    spent = []
    for _ in range(rounds + 3):
        started = time.thread_time()  # of this thread alone: the machine may have other work
        trainer.run_step(photos)
        spent.append(time.thread_time() - started)
    return 1e3 * statistics.median(spent[3:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--width", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = MambaIC(narrow(PRESETS["s"], options.width))
    model.entropy_model.update()
    config = TrainConfig(
        steps=10**6, batch=1, crop=64, large_crop=64, precision="fp32", warmup_steps=1
    )
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    with TemporaryDirectory() as folder:
        Image.fromarray(noise).save(Path(folder) / "0.png")
        photos = PhotoSet([Path(folder)], min_side=64)
    trainer = Trainer(model, config)
    print(f"{len(trainer.parameters)} parameters of {sum(p.numel() for p in trainer.parameters)}")
    print(f"step as it is        {median_ms(trainer, photos, options.rounds // 3):8.1f} ms")
    graph.record = recorded_once
    trainer.config = replace(config, cuda_graph=True)
    print(f"recorded pass        {median_ms(trainer, photos, options.rounds):8.1f} ms")


if __name__ == "__main__":
    main()
