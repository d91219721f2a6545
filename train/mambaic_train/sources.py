"""Where training images come from: folders, single files, and WebDataset-style tar shards."""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mambaic.container.fields import MAX_PIXELS
from mambaic.errors import ConfigError, ImageError
from mambaic.imaging.image import read_image
from mambaic.imaging.opening import opened
from mambaic.imaging.suffixes import IMAGE_SUFFIXES

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """One encoded image: a file, or ``size`` bytes from ``offset`` in a tar shard."""

    name: str
    path: Path
    offset: int = 0
    size: int = -1

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    def shape(self) -> tuple[int, int] | None:
        """Its two sides, of a turned photograph in any order, by the image's header; None if it
        has none that can be read."""
        try:
            with opened(self.read(), self.name, MAX_PIXELS) as (image, _):
                return image.height, image.width
        except (ImageError, OSError) as exc:
            log.warning("%s; skipped", exc)
            return None

    def decode(self) -> np.ndarray | None:
        """(H, W, 3) uint8, the pixels that a codec is given; None if the image is damaged."""
        try:
            return read_image(self.read()).pixels
        except (ImageError, OSError) as exc:
            log.warning("%s: %s; skipped", self.name, exc)
            return None


def find_sources(paths: Sequence[Path]) -> Iterator[Source]:
    """Every image under folders, in tar shards, or named directly, in a fixed order.

    Raises ConfigError on a path that does not exist or a shard that is no tar file.
    """
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file())
            yield from find_sources(
                [p for p in inside if p.suffix.lower() in IMAGE_SUFFIXES | {".tar"}]
            )
        elif path.suffix.lower() == ".tar" and path.is_file():
            yield from _members(path)
        elif path.is_file():
            yield Source(path.name, path)
        else:
            raise ConfigError(f"{path}: no such file or folder of training images")


def _members(path: Path) -> Iterator[Source]:
    try:
        with tarfile.open(path, "r:") as archive:  # uncompressed, so that members can be sought
            for member in archive:
                if member.isfile() and Path(member.name).suffix.lower() in IMAGE_SUFFIXES:
                    name = f"{path.name}/{member.name}"
                    yield Source(name, path, member.offset_data, member.size)
    except tarfile.TarError as exc:
        raise ConfigError(f"{path}: not a readable tar shard: {exc}") from exc
