"""Photographs decoded once into memory and cropped from there.

Folders of images and WebDataset-style tar shards. Crops are drawn by pixel count, so that many
small images do not swamp a few large ones.
"""

from __future__ import annotations

import io
import logging
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from mambaic.errors import ConfigError

log = logging.getLogger(__name__)

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif"}


def _sources(paths: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """(name, encoded bytes) of every image under folders, in tars, or named directly."""
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file())
            known = [p for p in inside if p.suffix.lower() in SUFFIXES | {".tar"}]
            yield from _sources(known)
        elif path.suffix.lower() == ".tar":
            with tarfile.open(path) as archive:
                for member in archive:
                    if member.isfile() and Path(member.name).suffix.lower() in SUFFIXES:
                        file = archive.extractfile(member)
                        assert file is not None
                        yield f"{path.name}/{member.name}", file.read()
        elif path.is_file():
            yield path.name, path.read_bytes()
        else:
            raise ConfigError(f"{path}: no such file or folder of training images")


class PhotoSet:
    """Decoded photographs as one flat uint8 array. ``skipped`` counts corrupt and tiny ones."""

    def __init__(self, paths: Sequence[Path], *, min_side: int) -> None:
        images: list[np.ndarray] = []
        self.skipped = 0
        self.names: list[str] = []
        for name, data in _sources(paths):
            try:
                with Image.open(io.BytesIO(data)) as file:
                    image = np.asarray(file.convert("RGB"))
            except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
                log.warning("%s: unreadable, skipped", name)
                self.skipped += 1
                continue
            if min(image.shape[:2]) < min_side:
                log.warning("%s: smaller than %d pixels, skipped", name, min_side)
                self.skipped += 1
                continue
            images.append(image)
            self.names.append(name)
        if not images:
            where = ", ".join(str(path) for path in paths)
            raise ConfigError(
                f"{where}: no usable training image ({self.skipped} skipped; every side must have "
                f"at least {min_side} pixels)"
            )
        self.shapes = [image.shape[:2] for image in images]
        self.pixels = np.concatenate([image.reshape(-1) for image in images])
        sizes = np.array([height * width for height, width in self.shapes])
        self.offsets = np.concatenate([[0], np.cumsum(3 * sizes)])
        self.bounds = np.cumsum(sizes / sizes.sum())

    def __len__(self) -> int:
        return len(self.shapes)

    def image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 view."""
        flat = self.pixels[self.offsets[index] : self.offsets[index + 1]]
        return flat.reshape(*self.shapes[index], 3)

    def _draw(self, rng: np.random.Generator) -> tuple[int, np.ndarray]:
        """(image, four numbers that place the crop)."""
        numbers = rng.random(5)
        index = int(np.searchsorted(self.bounds, numbers[4], side="right"))
        return min(index, len(self) - 1), numbers

    def crops(
        self, count: int, size: int, rng: np.random.Generator, share: slice = slice(None)
    ) -> Tensor:
        """Random crops, mirrored and transposed at random, (count, 3, size, size) in [0, 1].

        ``share`` makes only some of them, with the same draws. Crops of images smaller than
        ``size`` are taken from a mirrored extension.
        """
        drawn = [self._draw(rng) for _ in range(count)][share]
        out = np.empty((len(drawn), size, size, 3), dtype=np.uint8)
        for slot, (index, numbers) in enumerate(drawn):
            out[slot] = _crop(self.image(index), size, numbers)
        return torch.from_numpy(out).permute(0, 3, 1, 2).float().div_(255.0)


def _crop(image: np.ndarray, size: int, numbers: np.ndarray) -> np.ndarray:
    """Crop at the place and with the mirroring that four numbers in [0, 1) say."""
    height, width = image.shape[:2]
    if min(height, width) < size:
        pad = [(0, max(0, size - height)), (0, max(0, size - width)), (0, 0)]
        image = np.pad(image, pad, mode="symmetric")
        height, width = image.shape[:2]
    top, left = int(numbers[0] * (height - size + 1)), int(numbers[1] * (width - size + 1))
    crop = image[top : top + size, left : left + size]
    if numbers[2] < 0.5:
        crop = crop[:, ::-1]
    if numbers[3] < 0.5:
        crop = crop.transpose(1, 0, 2)
    return crop
