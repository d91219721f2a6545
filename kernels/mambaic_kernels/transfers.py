"""Between a device and the host, through pinned memory: a coding step stops for its one answer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_host(x: Tensor) -> np.ndarray:
    """Numbers of a tensor, as soon as they are there."""
    if x.device.type == "cpu":
        return np.asarray(x.numpy())
    pinned = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    pinned.copy_(x, non_blocking=True)
    torch.cuda.current_stream(x.device).synchronize()
    return np.asarray(pinned.numpy())


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """A tensor of numbers; nobody waits for its arrival."""
    found = torch.from_numpy(values)
    if device.type == "cpu":
        return found
    return found.pin_memory().to(device, non_blocking=True)
