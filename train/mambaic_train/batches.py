"""Batches of crops by step: the same for a seed and a step on every device, in every process.

Photographs that fit lie in the GPU's memory and are cropped there, so that the host sends the
places of the crops alone; of others it makes the crops and sends those.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from mambaic_train.crops import Crops, HeldPhotos, cut
from mambaic_train.data import Photos

HELD_SHARE = 0.25  # of a GPU's free memory that photographs may take


def draw_crops(
    photos: Photos, count: int, size: int, rng: np.random.Generator, share: slice = slice(None)
) -> Crops:
    """``count`` random crops; ``share`` makes only some of them, with the same draws."""
    return cut([photos.draw(rng) for _ in range(count)][share], size)


def held_memory(device: torch.device) -> int:
    """Bytes of photographs that a device may hold; 0 for the host, which has them already."""
    if device.type != "cuda":
        return 0
    return int(HELD_SHARE * torch.cuda.mem_get_info(device)[0])


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """Where a copy to ``device`` does not have to be waited for."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """On ``device``; nobody waits until it is there."""
    return pinned(tensor, device).to(device, non_blocking=True)


class Batches:
    """Each is made ready in the background while the step before it runs.

    A batch depends on the seed and the step alone: resumed runs and all processes of one run draw
    the same.
    """

    def __init__(
        self,
        photos: Photos,
        seed: int,
        device: torch.device | str = "cpu",
        memory: int | None = None,
    ) -> None:
        """``memory``: bytes of photographs that the device may hold, ``held_memory`` by default."""
        self.photos = photos
        self._seed = seed
        self._device = torch.device(device)
        memory = held_memory(self._device) if memory is None else memory
        fits = not photos.streamed and photos.bytes <= memory
        self._held = HeldPhotos(photos.images, device) if fits else None
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._next: tuple[tuple[object, ...], Future[list[Tensor]]] | None = None

    def get(self, step: int, count: int, size: int, share: slice) -> Crops:
        """Those of the share, on the device."""
        wanted = (step, count, size, share)
        if self._next is not None and self._next[0] == wanted:
            parts = self._next[1].result()
        else:
            parts = self._pool.submit(self._make, *wanted).result()
        later = (step + 1, count, size, share)
        self._next = (later, self._pool.submit(self._make, *later))
        return self._arrived(parts, size)

    def sample(self, count: int, size: int) -> Crops:
        """Some crops of the photographs that are in memory now."""
        rng = np.random.default_rng(self._seed)
        return self._arrived(self._drawn(rng, count, size, slice(None)), size)

    def _make(self, step: int, count: int, size: int, share: slice) -> list[Tensor]:
        self.photos.seek(step)
        rng = np.random.default_rng([self._seed, step])
        return self._drawn(rng, count, size, share)

    def _drawn(self, rng: np.random.Generator, count: int, size: int, share: slice) -> list[Tensor]:
        """What the device is sent."""
        if self._held is None:
            parts = list(draw_crops(self.photos, count, size, rng, share))
        else:
            samples = [self.photos.draw(rng) for _ in range(count)][share]
            parts = [self._held.places(samples, size)]
        return [pinned(part, self._device) for part in parts]

    def _arrived(self, parts: list[Tensor], size: int) -> Crops:
        first, *others = [part.to(self._device, non_blocking=True) for part in parts]
        return Crops(first, *others) if self._held is None else self._held.cut(first, size)
