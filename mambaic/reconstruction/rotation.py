"""The rotation of colours that a file may have.

The networks learned axes of colours that suit photographs as a whole. Those of one picture, the red
of its door or the orange of its dusk, lie between them, and then cost more bits than they need to.
So an encoder rotates all colours about middle gray before analysis, and a decoder rotates them back
after its synthesis; squared errors stay what they are. Format section: docs/format.md, "Rotation".
The encoder searches for it (``mambaic.encoder.rotation_search``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mambaic.errors import CorruptStream
from mambaic.imaging.colour_axes import PLANES

STEP_DEG = 0.5
LARGEST = 127  # steps


class Rotation(NamedTuple):
    """Steps about the gray axis, and about those of the two differences of colours: the rotation
    about their sum, as a vector, by its length."""

    gray: int = 0
    first: int = 0
    second: int = 0

    @classmethod
    def nearest(cls, angles: np.ndarray) -> Rotation:
        """That of angles (3,) in radians, as near as a file keeps it."""
        steps = np.rint(np.degrees(angles) / STEP_DEG).clip(-LARGEST, LARGEST)
        return cls(*(int(step) for step in steps))

    @classmethod
    def from_bytes(cls, data: bytes) -> Rotation:
        """Raises CorruptStream for what ``to_bytes`` does not write."""
        rotation = cls(*np.frombuffer(data, np.int8).tolist()) if len(data) == 3 else cls()
        if not any(rotation) or min(rotation) < -LARGEST:
            raise CorruptStream("the rotation is not as an encoder writes one: the data is damaged")
        return rotation

    def to_bytes(self) -> bytes:
        return np.array(self, np.int8).tobytes()

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3), of R, G and B."""
        return matrix(np.radians(STEP_DEG * np.array(self)))

    def rotate(self, x: Tensor) -> Tensor:
        """R, G and B (B, 3, H, W) in [0, 1], rotated: maybe out of [0, 1]."""
        return _rotated(x, self.matrix) if any(self) else x

    def rotate_back(self, x: Tensor) -> Tensor:
        return _rotated(x, self.matrix.T) if any(self) else x


IDENTITY = Rotation()


def matrix(angles: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) of R, G and B by angles (3,) in radians, by the formula of Rodrigues."""
    angle = float(np.linalg.norm(angles))
    if angle == 0:
        return np.eye(3)
    x, y, z = angles @ PLANES / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _rotated(x: Tensor, by: np.ndarray) -> Tensor:
    # about middle gray; a convolution of as few channels takes many times as long on two threads
    weight, shift = (
        torch.from_numpy(of).to(x) for of in (by, 0.5 - 0.5 * by.sum(1, keepdims=True))
    )
    rotated = torch.baddbmm(shift, weight.expand(len(x), 3, 3), x.flatten(2))
    return rotated.view(x.shape)
