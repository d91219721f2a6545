"""Grain: noise that a decoder makes in place of the fine texture that a file leaves out.

White noise is a hash of a seed and of a pixel's place in the picture, so that pieces have no seams;
differences of its blurs are BANDS, an octave each. A file says how strong each band is where the
expected error of a pixel, which the entropy model knows, is at one of KNOTS: that tells far better
than brightness how much texture is missing (docs/design/grain.md). Format section: docs/format.md,
"Grain". The encoder measures the strengths (``mambaic.encoder.grain_estimate``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mambaic.errors import CorruptStream
from mambaic.reconstruction.post_filter import Reconstruction

BANDS = 2  # octaves, the finest first
KNOTS = 4  # of the expected error, half an octave apart
LEVEL = 1 / 255
STEP = LEVEL / 8  # of strengths, which are standard deviations
LOWEST_KNOT = LEVEL / 4
FIRST_KNOTS = 16  # places of the first knot, half octaves up from the lowest
REACH = (1 << BANDS) - 1  # pixels around one that its grain depends on
CELL = 8  # side in pixels of the cells that have a strength
# standard deviations of the bands of white noise below
SPREADS = (83.65, 28.52)


@dataclass(frozen=True)
class Grain:
    """``strengths`` (BANDS, KNOTS) in STEPs; the knots begin ``first`` half octaves above
    LOWEST_KNOT."""

    seed: int
    first: int
    strengths: tuple[tuple[int, ...], ...]

    @classmethod
    def from_bytes(cls, data: bytes) -> Grain:
        """Raises CorruptStream for what ``to_bytes`` does not write."""
        if len(data) != 2 + BANDS * KNOTS or data[1] >= FIRST_KNOTS or not any(data[2:]):
            raise CorruptStream("the grain is not as an encoder writes one: the data is damaged")
        rows = np.frombuffer(data[2:], np.uint8).reshape(BANDS, KNOTS).tolist()
        return cls(data[0], data[1], tuple(map(tuple, rows)))

    def to_bytes(self) -> bytes:
        return bytes([self.seed, self.first, *(one for row in self.strengths for one in row)])

    def add(self, reconstruction: Reconstruction, top: int, left: int) -> Tensor:
        """R, G and B (3, H, W) with grain, not clamped. ``top`` and ``left`` are its place in the
        picture in pixels; they and its sides are multiples of CELL."""
        height, width = reconstruction.deviation.shape
        noise = white_noise(
            self.seed, top - REACH, left - REACH, height + 2 * REACH, width + 2 * REACH
        )
        strengths = F.interpolate(
            self._of_cells(reconstruction), scale_factor=CELL, mode="bilinear"
        )
        grain = torch.zeros_like(reconstruction.deviation)
        for band, strength in zip(
            bands(torch.from_numpy(noise).to(grain)), strengths[0], strict=True
        ):
            grain.addcmul_(band, strength)
        return reconstruction.x_hat + grain

    def _of_cells(self, reconstruction: Reconstruction) -> Tensor:
        """What the bands of each cell are multiplied by: (1, BANDS, H / CELL, W / CELL)."""
        steps = torch.tensor(self.strengths, dtype=torch.float32)
        steps = steps * (STEP / torch.tensor(SPREADS, dtype=torch.float32))[:, None]
        error = mean_square(reconstruction.deviation, CELL)
        of_cells = torch.tensordot(steps.to(error), hats(error, self.first), dims=1)
        return (of_cells * share(reconstruction, error, CELL))[None]


def hats(error: Tensor, first: int) -> Tensor:
    """What each knot counts (KNOTS, ...) at squared expected errors: linear in their log."""
    place = torch.log2(error / LOWEST_KNOT**2) - first  # half octaves
    knots = torch.arange(KNOTS, device=error.device).view(-1, *[1] * error.dim())
    return (1 - (place.clamp(0, KNOTS - 1) - knots).abs()).clamp(min=0)


def share(reconstruction: Reconstruction, error: Tensor, side: int) -> Tensor:
    """How much grain there is at cells of ``side`` pixels with squared expected errors ``error``:
    little where the picture has more contrast than that, as at edges, and 1 where it is flat."""
    brightness = reconstruction.x_hat.mean(dim=0)
    mean = F.avg_pool2d(brightness[None], side)[0]
    variance = (mean_square(brightness, side) - mean.square()).clamp(min=0)
    return error / (error + variance)


def mean_square(x: Tensor, side: int) -> Tensor:
    """Of (H, W) over cells of ``side`` pixels."""
    return F.avg_pool2d(x.square()[None], side)[0]


def white_noise(seed: int, top: int, left: int, height: int, width: int) -> NDArray[np.float32]:
    """Whole numbers from -255 to 255 (height, width), of a triangular distribution."""
    rows = np.arange(top, top + height).astype(np.uint32)[:, None]
    columns = np.arange(left, left + width).astype(np.uint32)
    of_rows = _mix(np.full_like(rows, seed), rows)
    keys = _mix(_mix(of_rows, columns), of_rows)
    high, low = (keys >> np.uint32(24)), (keys >> np.uint32(16)) & np.uint32(255)
    return (high + low).astype(np.float32) - np.float32(255)


def _mix(key: NDArray[np.uint32], value: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Hash of two numbers; the format has it with exact blocks, too."""
    mixed = (key ^ (value + np.uint32(1))) * np.uint32(0x2C1B3C6D)
    return mixed ^ (mixed >> np.uint32(15))


def bands(x: Tensor) -> list[Tensor]:
    """Octaves of (H, W), the finest first, each less REACH pixels at every border. Float32 holds
    those of whole numbers of 9 bits exactly."""
    found = []
    for octave in range(BANDS):
        blurred, border = _blurred(x, octave), 1 << octave
        rest = REACH + 1 - 2 * border  # what later blurs take off
        fine = x[border:-border, border:-border] - blurred
        found.append(fine[rest : fine.shape[0] - rest, rest : fine.shape[1] - rest])
        x = blurred
    return found


def _blurred(x: Tensor, octave: int) -> Tensor:
    """By (1, 2, 1) / 4 over pixels ``1 << octave`` apart, along both sides."""
    apart = 1 << octave
    for dim in (0, 1):
        size = x.shape[dim] - 2 * apart
        ends = x.narrow(dim, 0, size) + x.narrow(dim, 2 * apart, size)
        x = ends.add_(x.narrow(dim, apart, size), alpha=2)
    return x.mul_(1 / 16)
