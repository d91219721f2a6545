"""What a product takes in for every position of its output, and how results lie in memory."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mambaic_kernels.grids import Grid, Grids, join, take


class Places(NamedTuple):
    """``channel``: 1 of maps (B, C, H, W) -> (B, out, H, W), -1 of rows (..., C) -> (..., out).
    With ``grids``, maps -> rows (B, n, out) at these positions. ``side`` of the window, how far it
    begins ``before`` a position, its ``dilation``, from how many positions on there is the next one
    (``stride``); ``depthwise``: every channel by itself."""

    channel: int = -1
    side: int = 1
    before: int = 0
    dilation: int = 1
    stride: int = 1
    depthwise: bool = False
    grids: Grids = ()

    @property
    def of_rows(self) -> bool:
        """Whether channels are the last dimension of what comes out."""
        return self.channel == -1 or bool(self.grids)

    @property
    def out_channel(self) -> int:
        """``channel`` of what comes out."""
        return -1 if self.of_rows else 1


def sums(x: Tensor, weight: Tensor, places: Places) -> Tensor:
    """Sums of products of integers: exact in any order."""
    if places.channel == -1:
        return F.linear(x, weight.flatten(1))
    if places.grids and places.side == 1:
        return F.linear(take(x, places.grids), weight.flatten(1))
    around = places.before
    if not places.grids:
        groups = weight.shape[0] if places.depthwise else 1
        return F.conv2d(x, weight, None, places.stride, around, places.dilation, groups)
    return join(
        [F.conv2d(F.pad(x, of.around(around)), weight, None, of.stride) for of in places.grids]
    )


def by_position(x: Tensor, channel: int) -> Tensor:
    """A view (B, H, W, C) of a map or of rows."""
    if channel == 1:
        return x.permute(0, 2, 3, 1)
    if x.ndim == 4:
        return x
    return x.reshape(1, 1, -1, x.shape[-1]) if x.ndim < 3 else x.unsqueeze(1)


def out_shape(x: Tensor, out: int, places: Places) -> tuple[int, ...]:
    """Sizes of the output with its channels last, in whose order it lies in memory."""
    if places.channel == -1:
        return (*x.shape[:-1], out)
    batch, _, height, width = x.shape
    if not places.grids:
        return batch, *(_windows(length, places) for length in (height, width)), out
    stride = places.grids[0].stride
    return batch, len(places.grids) * (height // stride) * (width // stride), out


def empty_output(x: Tensor, out: int, places: Places) -> Tensor:
    found = torch.empty(out_shape(x, out, places), dtype=x.dtype, device=x.device)
    return found if places.of_rows else found.permute(0, 3, 1, 2)


def _windows(length: int, places: Places) -> int:
    reach = places.dilation * (places.side - 1)
    return (length + 2 * places.before - reach - 1) // places.stride + 1


def grids_of(places: Places) -> Grids:
    return places.grids or (Grid(0, 0, places.stride),)
