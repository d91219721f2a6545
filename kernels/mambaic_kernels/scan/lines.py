"""The lines of a four-direction scan over threads."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mambaic_kernels.scan.layout import DIRECTIONS
from mambaic_kernels.threads import cut, run

Range = tuple[int, int]

CHANNELS = 128  # of a block at most, where lines are not many
SERIAL = 1 << 16  # outputs under which threads cost more than they give


def over_lines(
    scan: Callable[[Range, Range, Range], None],
    size: tuple[int, int, bool],
    channels: int,
    outputs: int,
) -> None:
    """scan(directions, lines, channels), ranges of each, over threads. ``size``: height, width, and
    whether lines are rows and columns: then those of the two directions along rows, then those
    along columns, as all add to the same outputs. One line over the whole map is scanned by blocks
    of channels."""
    height, width, reset = size
    count = 1 if outputs < SERIAL else 2 * torch.get_num_threads()
    if not reset:
        blocks = cut(channels, count, CHANNELS)
        run(lambda _, *block: scan((0, DIRECTIONS), (0, 1), block), blocks)
        return
    whole = 0, channels
    for directions, lines in (((0, 2), height), ((2, 4), width)):

        def some(_: int, first: int, last: int, directions: Range = directions) -> None:
            scan(directions, (first, last), whole)

        run(some, cut(lines, count, lines, 1))
