"""Large maps part by part outside training, so that temporaries do not grow with a tile.

Nothing here changes what is computed, only how much of it is in memory at once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

POSITIONS_AT_ONCE = 64 * 64  # larger maps are worked on part by part
SCANNED_AT_ONCE = 1 << 20  # positions times channels: 64 MB of operands and temporaries
LANES = 32  # channels are scanned in multiples of it
GPU_FACTOR = 32  # on a GPU so many times as many, as every part takes launches of its own


def positions_at_once(device: torch.device) -> int:
    return POSITIONS_AT_ONCE * (1 if device.type == "cpu" else GPU_FACTOR)


def squares_at_once(positions: int, device: torch.device) -> int:
    """How many squares of so many positions are worked on together: on a CPU each alone, as what it
    takes then stays in the cache."""
    return 1 if device.type == "cpu" else max(1, positions_at_once(device) // positions)


def at_once(height: int, width: int, device: torch.device) -> bool:
    """Whether a map is worked on at once: in training always, else up to a size."""
    return torch.is_grad_enabled() or height * width <= positions_at_once(device)


def channels_at_once(positions: int, channels: int, device: torch.device) -> int:
    """How many channels of a map are scanned together: in training all, else as many as keep what
    a scan takes of every position and channel within SCANNED_AT_ONCE."""
    if torch.is_grad_enabled():
        return channels
    factor = 1 if device.type == "cpu" else GPU_FACTOR
    fitting = factor * SCANNED_AT_ONCE // (positions * LANES) * LANES
    return min(channels, max(LANES, fitting))


def by_rows(function: Callable[..., Tensor], *maps: Tensor, dim: int, multiple: int = 1) -> Tensor:
    """``function`` of maps with rows along ``dim`` and columns after them, which must keep the
    shape of the first and treat every ``multiple`` rows alone."""
    height, width = maps[0].shape[dim : dim + 2]
    device = maps[0].device
    if at_once(height, width, device):
        return function(*maps)
    out = torch.empty_like(maps[0])
    rows = multiple * max(1, positions_at_once(device) // (multiple * width))
    for top in range(0, height, rows):
        count = min(rows, height - top)
        out.narrow(dim, top, count).copy_(function(*(m.narrow(dim, top, count) for m in maps)))
    return out
