"""Model card: what the weights are, how they were made, and what they measure, by real files."""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mambaic.codec import Codec
from mambaic.errors import ConfigError, ImageError
from mambaic.evaluation.run import plain
from mambaic.image import read_image
from mambaic.metrics import bpp_from_bytes, psnr_db
from mambaic_train.data import SUFFIXES, PhotoSet
from mambaic_train.loop import Trainer

log = logging.getLogger(__name__)

QUALITIES = (5.0, 15.0, 30.0, 45.0, 60.0, 75.0, 90.0, 100.0)


def run_facts(trainer: Trainer, data: PhotoSet, paths: Sequence[Path]) -> dict[str, Any]:
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
        "data_images": len(data),
        "data_megapixels": round(data.pixels.size / 3e6, 1),
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "command": " ".join(["mambaic", *sys.argv[1:]]),
    }


def rd_points(
    codec: Codec, folder: Path, qualities: Sequence[float] = QUALITIES
) -> list[dict[str, float]]:
    """Mean bpp (of files) and PSNR (of 8-bit decodes) over the images of a folder."""
    pictures = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        try:
            pictures.append(plain(read_image(path)))
        except ImageError as exc:
            log.warning("%s: not measured", exc)
    if not pictures:
        raise ConfigError(f"{folder}: no image to validate on")
    points = []
    for quality in qualities:
        rows = []
        for picture in pictures:
            data, bits = codec.encode_picture(picture, quality)
            decoded = codec.decode_picture(data)
            pixels = picture.size[0] * picture.size[1]
            psnr = psnr_db(picture.pixels, decoded.pixels)
            rows.append((bpp_from_bytes(len(data), *picture.size), bits / pixels, psnr))
        bpp, estimated, psnr = np.mean(rows, axis=0)
        points.append({"quality": quality, "bpp": bpp, "estimated_bpp": estimated, "psnr_db": psnr})
    return points


def write_card(codec: Codec, folder: Path, facts: dict[str, Any], valid: Path | None) -> None:
    """MODEL_CARD.md beside the weights."""
    lines = [
        f"# mambaic weights `{folder.name}`",
        "",
        f"Weights id `{codec.model.weights_id.hex()}`, preset `{facts['preset']}`.",
        "",
        "| fact | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in facts.items() if name != "train"),
        *(f"| train.{name} | {value} |" for name, value in facts["train"].items()),
    ]
    if valid is not None:
        lines += ["", f"Real files of the images in `{valid.name}`:", ""]
        lines += ["| quality | bpp | estimated bpp | PSNR dB |", "|---|---|---|---|"]
        lines += [
            f"| {p['quality']:g} | {p['bpp']:.4f} | {p['estimated_bpp']:.4f} | {p['psnr_db']:.3f} |"
            for p in rd_points(codec, valid)
        ]
    (folder / "MODEL_CARD.md").write_text("\n".join(lines) + "\n")
