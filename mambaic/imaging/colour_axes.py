"""Brightness and two differences of colours: what the post-filter and rotations reckon in."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# rows are orthonormal: squared errors of planes are those of R, G and B
PLANES = np.array([[1, 1, 1], [1, 0, -1], [-0.5, 1, -0.5]])
PLANES /= np.linalg.norm(PLANES, axis=1, keepdims=True)


def to_planes(x: Tensor) -> Tensor:
    """Planes (3, H, W), around middle gray, of R, G and B in [0, 1]."""
    return torch.tensordot(torch.from_numpy(PLANES).to(x), x - 0.5, dims=1)


def to_colours(planes: Tensor) -> Tensor:
    """What planes (3, H, W) add to R, G and B."""
    return torch.tensordot(torch.from_numpy(PLANES.T.copy()).to(planes), planes, dims=1)
