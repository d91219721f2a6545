"""Where training images come from: folders, single files, and WebDataset-style tar shards."""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from mambaic.container.fields import MAX_PIXELS
from mambaic.errors import ConfigError, ImageError
from mambaic.imaging.image import read_image
from mambaic.imaging.opening import opened
from mambaic.imaging.suffixes import IMAGE_SUFFIXES, is_mac_companion

log = logging.getLogger(__name__)

SHARD = ".tar"
ARCHIVES = (".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".tar.zst", ".zip", ".7z")
UNPACK = "a compressed archive: unpack it, or make an uncompressed .tar of it"


@dataclass(frozen=True)
class Source:
    """One encoded image: a file, or ``size`` bytes from ``offset`` in a tar shard; to be made
    smaller by ``factor`` when it is decoded."""

    name: str
    path: Path
    offset: int = 0
    size: int = -1
    factor: float = 1.0

    def smaller(self, factor: float) -> Source:
        return replace(self, factor=factor)

    def read(self) -> bytes:
        """Raises OSError, and ImageError if the shard ends within it."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise ImageError(f"{self.name}: the shard ends within it")
        return data

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
            pixels = read_image(self.read()).pixels
        except (ImageError, OSError) as exc:
            log.warning("%s: %s; skipped", self.name, exc)
            return None
        return pixels if self.factor == 1 else _reduced(pixels, self.factor)


def reduced_shape(shape: tuple[int, int], factor: float) -> tuple[int, int]:
    """Sides of an image made smaller by ``factor``."""
    return round(shape[0] / factor), round(shape[1] / factor)


def _reduced(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Without aliasing, (H, W, 3) uint8."""
    height, width = reduced_shape((pixels.shape[0], pixels.shape[1]), factor)
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def find_sources(paths: Sequence[Path]) -> Iterator[Source]:
    """Every image under folders, in tar shards, or named directly, in a fixed order.

    Raises ConfigError on a path that does not exist, a shard that is no tar file, or an archive
    whose members cannot be sought.
    """
    for path in paths:
        if path.is_dir():
            yield from _inside(path)
        elif not path.is_file():
            raise ConfigError(f"{path}: no such file or folder of training images")
        elif path.suffix.lower() == SHARD:
            yield from _members(path)
        elif path.name.lower().endswith(ARCHIVES):
            raise ConfigError(f"{path}: {UNPACK}")
        else:
            yield Source(path.name, path)


def _inside(folder: Path) -> Iterator[Source]:
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if is_mac_companion(path.relative_to(folder)):
            continue
        if path.suffix.lower() in IMAGE_SUFFIXES | {SHARD}:
            yield from find_sources([path])
        elif path.name.lower().endswith(ARCHIVES):  # perhaps of what was unpacked beside it
            log.warning("%s: left out, %s", path, UNPACK)


def _members(path: Path) -> Iterator[Source]:
    """Images of a tar shard; one that is cut off gives those before the cut.

    The last may be cut itself: it is among them, and found out when it is read.
    """
    count, images, cut = 0, 0, False
    try:
        with tarfile.open(path, "r:") as archive:  # uncompressed, so that members can be sought
            try:
                for member in archive:
                    count += 1
                    name = PurePosixPath(member.name)
                    image = member.isfile() and name.suffix.lower() in IMAGE_SUFFIXES
                    if image and not is_mac_companion(name):
                        images += 1
                        place = member.offset_data, member.size
                        yield Source(f"{path.name}/{member.name}", path, *place)
                cut = not _is_finished(path, archive.offset)
            except tarfile.ReadError:  # within the last member
                cut = True
    except (tarfile.TarError, OSError) as exc:
        raise ConfigError(f"{path}: not a readable tar shard: {exc}") from exc
    if cut:
        log.warning("%s: cut off or damaged after %d members, %d images", path, count, images)


def _is_finished(path: Path, offset: int) -> bool:
    """Whether a tar file has its end there, which is a block of zeros."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
