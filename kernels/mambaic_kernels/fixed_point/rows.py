"""Tensors as rows of channels for numba kernels: views where memory allows it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mambaic_kernels.threads import cut, run

SERIAL = 1 << 16  # elements under which threads cost more than they give


# memory, step, count, channels: row i is ``memory[i * step : i * step + channels]``, in one
# dimension, so that a kernel knows that channels are dense also where rows are not, as in one half
# of a layer's output. A plain tuple: named ones are told apart by Python, which takes long
Rows = tuple[np.ndarray, int, int, int]
NONE: Rows = (np.empty(0, np.float32), 0, 0, 0)


def rows_of(x: Tensor, channel: int = -1) -> Rows:
    """Of maps (B, C, H, W) if ``channel`` is 1, else of (..., C); a copy only where channels are
    not dense or rows not evenly apart."""
    last = x.permute(0, 2, 3, 1) if channel == 1 else x
    rows = last.reshape(-1, last.shape[-1])
    if rows.stride(1) != 1:
        rows = rows.contiguous()
    (count, channels), step = rows.shape, rows.stride(0)
    length = (count - 1) * step + channels if count else 0
    return rows.as_strided((length,), (1,)).numpy(), step, count, channels


def spread(task: Callable[[int, int], None], count: int, size: int) -> None:
    """task(first, last) over ``count`` items of ``size`` elements."""
    threads = torch.get_num_threads()
    if threads == 1 or count * size < SERIAL:
        task(0, count)
    else:
        run(lambda _, first, last: task(first, last), cut(count, threads, count))
