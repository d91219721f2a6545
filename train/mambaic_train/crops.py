"""Crops of photographs: where they lie, and their pixels, by one definition on every device.

A crop is mirrored and transposed at random. One that is larger than its photograph goes on into a
mirrored extension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Photo(NamedTuple):
    """Pixels (H, W, 3) uint8, and the rotation of colours (3, 3) float32 that suits them; whether
    it was made smaller."""

    pixels: np.ndarray
    rotation: np.ndarray
    reduced: bool = False


class Crops(NamedTuple):
    """Pixels (n, 3, size, size) uint8, and rotations of their colours (n, 3, 3)."""

    pixels: Tensor
    rotations: Tensor


Sample = tuple[Photo, np.ndarray]  # and five numbers in [0, 1) that place a crop in it


def places(samples: Sequence[Sample], size: int) -> Tensor:
    """(n, 6) int64: height and width of the photographs, top and left of the crops, and whether
    they are mirrored and transposed."""
    rows = []
    for photo, numbers in samples:
        height, width = photo.pixels.shape[:2]
        free = (max(0, height - size), max(0, width - size))
        top, left = (int(number * (room + 1)) for number, room in zip(numbers, free, strict=False))
        rows.append((height, width, top, left, numbers[2] < 0.5, numbers[3] < 0.5))
    return torch.from_numpy(np.array(rows, dtype=np.int64).reshape(-1, 6))


def pixel_index(places: Tensor, size: int) -> Tensor:
    """Which pixel of its photograph, counted row by row, each of a crop is: (n, size, size)."""
    height, width, top, left, mirrored, transposed = places[..., None, None].unbind(1)
    steps = torch.arange(size, device=places.device)
    down, across = steps[:, None], steps
    row = torch.where(transposed > 0, across, down)
    column = torch.where(transposed > 0, down, across)
    column = torch.where(mirrored > 0, size - 1 - column, column)
    return _mirrored(top + row, height) * width + _mirrored(left + column, width)


def _mirrored(at: Tensor, length: Tensor) -> Tensor:
    """Positions within ``length``, of any in its mirrored extension."""
    at = at % (2 * length)
    return torch.minimum(at, 2 * length - 1 - at)


def cut(samples: Sequence[Sample], size: int) -> Crops:
    """The crops of ``size`` that samples place."""
    index = pixel_index(places(samples, size), size)
    pixels = [
        torch.from_numpy(photo.pixels.reshape(-1, 3))[where]
        for (photo, _), where in zip(samples, index, strict=True)
    ]
    rotations = torch.from_numpy(np.array([photo.rotation for photo, _ in samples]))
    return Crops(torch.stack(pixels).permute(0, 3, 1, 2), rotations)


class HeldPhotos:
    """Photographs side by side in a device's memory, to be cropped there."""

    def __init__(self, photos: Sequence[Photo], device: torch.device | str) -> None:
        self._numbers = {id(photo): number for number, photo in enumerate(photos)}
        self._photos = list(photos)  # so that their ids stay theirs
        counts = [photo.pixels.size // 3 for photo in photos]
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._pixels = torch.empty(sum(counts), 3, dtype=torch.uint8, device=device)
        for part, photo in zip(self._pixels.split(counts), photos, strict=True):
            part.copy_(torch.from_numpy(photo.pixels.reshape(-1, 3)))
        self._rotations = torch.from_numpy(np.array([p.rotation for p in photos])).to(device)

    def places(self, samples: Sequence[Sample], size: int) -> Tensor:
        """All that the device is told of a batch, (n, 8) int64: ``places``, then the number of the
        photograph and of its first pixel."""
        numbers = [self._numbers[id(photo)] for photo, _ in samples]
        of_photo = torch.from_numpy(np.stack([numbers, self._starts[numbers]], axis=1))
        return torch.cat([places(samples, size), of_photo], dim=1)

    def cut(self, places: Tensor, size: int) -> Crops:
        """The crops at the ``places`` on the device."""
        number, start = places[:, 6], places[:, 7]
        index = pixel_index(places[:, :6], size) + start[:, None, None]
        return Crops(self._pixels[index].permute(0, 3, 1, 2), self._rotations[number])


def to_input(crops: Crops, device: torch.device | str = "cpu") -> Tensor:
    """Crops, rotated, as the network's input on its device: about [0, 1], channels_last."""
    pixels, rotations = (part.to(device, non_blocking=True) for part in crops)
    x = pixels.float().div_(255.0) - 0.5
    x = torch.einsum("ndc,nchw->ndhw", rotations, x) + 0.5
    return x.contiguous(memory_format=torch.channels_last)
