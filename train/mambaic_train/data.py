"""Photographs, decoded once into memory.

Crops are samples by pixel count, so that many small images do not swamp a few large ones. A set too
large for memory is seen through a window of decoded images that moves on with the training steps.
"""

from __future__ import annotations

import copy
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from mambaic.encoder.rotation_search import search
from mambaic.errors import ConfigError
from mambaic.extras import require
from mambaic.models.model import MambaIC
from mambaic.models.wavelet_transforms import WaveletTransform
from mambaic_train.crops import Photo, Sample
from mambaic_train.sources import Source, find_sources, reduced_shape

CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of Linux control groups, version 2
MEMORY_SHARE = 0.5  # of the machine's memory that decoded images may take
TURNOVER = 2  # images of a window that are replaced in one step
AHEAD = 16  # images decoded before they are needed
REDUCTION = (1.5, 3.0)
REDUCED_SIDE = 256  # pixels that a reduced photograph keeps at least
GOLDEN = (5**0.5 - 1) / 2  # its multiples spread evenly
IDENTITY = np.eye(3, dtype=np.float32)
ROTATION_QUALITY = 50.0  # quality: rotations hardly depend on it


class Photos(Protocol):
    """What training draws crops from."""

    skipped: int
    streamed: bool  # whether memory holds only some of them at a time
    bytes: int  # of all pixels

    @property
    def images(self) -> list[Photo]:
        """Those in memory now."""

    def __len__(self) -> int: ...

    def seek(self, step: int) -> None:
        """Hold the images of this training step."""

    def draw(self, rng: np.random.Generator) -> Sample:
        """One image, and the place of a crop in it."""

    def rotate(self, rotation_of: Callable[[np.ndarray], np.ndarray]) -> None:
        """Find every image's rotation (3, 3) by its pixels (H, W, 3) from now on."""


class PhotoSet:
    """Decoded photographs of folders and tar shards.

    ``memory`` bytes of them at most (by default half of the machine's memory): if there are more, a
    window over an endless shuffled sequence that depends on the training step alone, so that a
    resumed run sees the same images. ``skipped`` counts corrupt and tiny ones.

    With ``reduced`` that share of crops comes from photographs that are held a second time, made
    smaller: sharper, and with more of their colours' detail.

    Raises ConfigError if no image has sides of at least ``min_side``.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        min_side: int,
        memory: int | None = None,
        reduced: float = 0.0,
    ) -> None:
        found = list(find_sources(paths))
        self._pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
        shapes = list(self._pool.map(Source.shape, found))
        usable = [shape is not None and min(shape) >= min_side for shape in shapes]
        self.skipped = usable.count(False)
        self._sources = [source for source, good in zip(found, usable, strict=True) if good]
        sides = [shape for shape, good in zip(shapes, usable, strict=True) if shape and good]
        self._reduced = reduced
        if reduced:
            smaller = list(_smaller(self._sources, sides))
            self._sources += [source for source, _ in smaller]
            sides += [shape for _, shape in smaller]
        self.bytes = sum(3 * height * width for height, width in sides)
        self._rotation_of: Callable[[np.ndarray], np.ndarray] = lambda pixels: IDENTITY
        self._images: deque[Photo | None] = deque()
        self._coming: deque[Future[Photo | None]] = deque()
        self._start = 0
        memory = machine_memory() if memory is None else memory
        self.streamed = self.bytes > memory
        if self.streamed:
            self._window = max(1, len(sides) * memory // self.bytes)
        else:
            self._window = len(sides)
        self._fill(0)
        if not any(image is not None for image in self._images):
            where = ", ".join(str(path) for path in paths)
            raise ConfigError(
                f"{where}: no usable training image ({self.skipped} skipped; every side must have "
                f"at least {min_side} pixels)"
            )

    def __len__(self) -> int:
        return sum(source.factor == 1 for source in self._sources)

    @property
    def images(self) -> list[Photo]:
        """Those in memory now."""
        return [image for image in self._images if image is not None]

    def rotate(self, rotation_of: Callable[[np.ndarray], np.ndarray]) -> None:
        """Find every image's rotation (3, 3) by its pixels (H, W, 3) from now on."""
        self._rotation_of = rotation_of
        # what is decoded already is not decoded again: it may fill the memory there is
        self._images = deque(self._pool.map(self._rotated, self._images))
        coming = [job.result() for job in self._coming]
        self._coming = deque(self._pool.submit(self._rotated, photo) for photo in coming)
        self._weigh()

    def seek(self, step: int) -> None:
        start = step * TURNOVER
        if not self.streamed or start == self._start:
            return
        if not self._start < start <= self._start + AHEAD:
            self._fill(start)
            return
        while self._start < start:
            self._images.popleft()
            self._images.append(self._coming.popleft().result())
            self._start += 1
            self._coming.append(self._decode(self._start + self._window + len(self._coming)))
        self._weigh()

    def draw(self, rng: np.random.Generator) -> Sample:
        numbers = rng.random(5)
        index = int(np.searchsorted(self._bounds, numbers[4], side="right"))
        return self._visible[min(index, len(self._visible) - 1)], numbers

    def _fill(self, start: int) -> None:
        self._coming.clear()
        jobs = [self._decode(start + i) for i in range(self._window)]
        self._images = deque(job.result() for job in jobs)
        self._start = start
        if self.streamed:
            later = range(start + self._window, start + self._window + AHEAD)
            self._coming = deque(self._decode(i) for i in later)
        else:
            damaged = [image is None for image in self._images]
            self.skipped += sum(
                bad and source.factor == 1
                for source, bad in zip(self._sources, damaged, strict=True)
            )
            self._sources = [s for s, bad in zip(self._sources, damaged, strict=True) if not bad]
            self._images = deque(self.images)
        self._weigh()

    def _decode(self, position: int) -> Future[Photo | None]:
        """The image at a position of the endless sequence."""
        epoch, index = divmod(position, len(self._sources))
        if self.streamed:
            index = int(_shuffled(epoch, len(self._sources))[index])
        return self._pool.submit(self._load, self._sources[index])

    def _load(self, source: Source) -> Photo | None:
        pixels = source.decode()
        reduced = source.factor > 1
        return self._rotated(None if pixels is None else Photo(pixels, IDENTITY, reduced))

    def _rotated(self, photo: Photo | None) -> Photo | None:
        return photo and photo._replace(rotation=self._rotation_of(photo.pixels))

    def _weigh(self) -> None:
        self._visible = self.images
        weights = np.array([math.prod(image.pixels.shape[:2]) for image in self._visible], float)
        reduced = np.array([image.reduced for image in self._visible], bool)
        if reduced.any() and not reduced.all():
            for those, share in ((reduced, self._reduced), (~reduced, 1 - self._reduced)):
                weights[those] *= share / weights[those].sum()
        self._bounds = np.cumsum(weights / max(1.0, weights.sum()))


def _smaller(
    sources: Sequence[Source], shapes: Sequence[tuple[int, int]]
) -> Iterator[tuple[Source, tuple[int, int]]]:
    """Those that can be made smaller by a factor within REDUCTION, each by another, and its sides
    then."""
    least, most = REDUCTION
    for number, (source, shape) in enumerate(zip(sources, shapes, strict=True)):
        spread = (number * GOLDEN) % 1.0
        factor = min(least + (most - least) * spread, min(shape) / REDUCED_SIDE)
        if factor >= least:
            yield source.smaller(factor), reduced_shape(shape, factor)


@lru_cache(maxsize=2)
def _shuffled(epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng(epoch).permutation(count)


class Mixture:
    """Draws ``share`` of its crops from ``other``: so that a model tuned on ``main`` does not
    forget what it knew."""

    def __init__(self, main: PhotoSet, other: PhotoSet, share: float) -> None:
        self.main, self.other, self.share = main, other, share
        self.skipped = main.skipped + other.skipped
        self.streamed = main.streamed or other.streamed
        self.bytes = main.bytes + other.bytes

    def __len__(self) -> int:
        return len(self.main) + len(self.other)

    @property
    def images(self) -> list[Photo]:
        return self.main.images + self.other.images

    def seek(self, step: int) -> None:
        self.main.seek(step)
        self.other.seek(step)

    def rotate(self, rotation_of: Callable[[np.ndarray], np.ndarray]) -> None:
        self.main.rotate(rotation_of)
        self.other.rotate(rotation_of)

    def draw(self, rng: np.random.Generator) -> Sample:
        return (self.other if rng.random() < self.share else self.main).draw(rng)


def machine_memory() -> int:
    """Bytes that one training process may fill with images: a share of the machine's memory, or of
    the container's where that is limited."""
    require("train")
    import psutil

    whole = psutil.virtual_memory().total
    if CONTAINER_LIMIT.exists() and (limit := CONTAINER_LIMIT.read_text().strip()) != "max":
        whole = min(whole, int(limit))
    return int(MEMORY_SHARE * whole) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def rotate_as_encoded(photos: Photos, model: MambaIC) -> None:
    """Give all photographs the colours in which an encoder would most likely see them."""
    if not isinstance(model.transform, WaveletTransform):
        return
    wavelet, config = copy.deepcopy(model.transform.wavelet).cpu(), model.config

    def rotation_of(pixels: np.ndarray) -> np.ndarray:
        rotation = search(wavelet, config, pixels, ROTATION_QUALITY)
        return rotation.matrix.astype(np.float32)

    photos.rotate(rotation_of)
