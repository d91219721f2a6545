"""Model card: what the weights are, how they were made, and what they measure, by real files."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mambaic.imaging.atomic_files import atomic_write
from mambaic_train.data import Photos
from mambaic_train.loop import Trainer
from mambaic_train.validate import RDPoint


def run_facts(trainer: Trainer, photos: Photos, paths: Sequence[Path]) -> dict[str, Any]:
    """JSON-able facts of a run."""
    cuda = trainer.device.type == "cuda"
    return {
        "preset": trainer.model.config.name,
        "train": trainer.config.to_dict(),
        "steps": trainer.step,
        "images_seen": trainer.images,
        "minutes": round(trainer.seconds / 60, 1),
        "skipped_steps": trainer.skipped,
        "data": [path.name for path in paths],
        "data_images": len(photos),
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "command": _command(trainer.world.size),
    }


def _command(processes: int) -> str:
    """The command line of this run; "train" is missing where ``python -m mambaic_train`` ran."""
    program = "mambaic"
    if sys.argv[1:2] != ["train"]:
        launcher = "python" if processes == 1 else f"torchrun --nproc-per-node {processes}"
        program = f"{launcher} -m mambaic_train"
    return " ".join([program, *sys.argv[1:]])


def write_card(
    weights_id: str, folder: Path, facts: dict[str, Any], points: Sequence[RDPoint]
) -> None:
    """MODEL_CARD.md beside the weights, with the measured ``points`` if there are any.

    Raises OutputError.
    """
    lines = [
        f"# mambaic weights `{folder.name}`",
        "",
        f"Weights id `{weights_id}`, preset `{facts['preset']}`.",
        "",
        "| fact | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in facts.items() if name != "train"),
        *(f"| train.{name} | {value} |" for name, value in facts["train"].items()),
    ]
    if points:
        lines += ["", "Real files of the validation images:", ""]
        lines += ["| quality | bpp | estimated bpp | PSNR dB | SSIMULACRA2 |", "|---" * 5 + "|"]
        lines += [
            f"| {p.quality:g} | {p.bpp:.4f} | {p.estimated_bpp:.4f} | {p.psnr_db:.3f} | "
            f"{p.ssimulacra2:.2f} |"
            for p in points
        ]
    atomic_write(folder / "MODEL_CARD.md", ("\n".join(lines) + "\n").encode(), force=True)
