"""Blocks of a picture that are coded without loss and pasted over what g_s reconstructs.

For text, line art and flat colours, which waves suit badly. Format section: docs/format.md, "Exact
blocks". The encoder chooses them (``mambaic.encoder.exact_choice``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mambaic.errors import CorruptStream
from mambaic_kernels.exact_blocks.decisions import COUNT, READ, SETTLE, WRITE, State, new_state
from mambaic_kernels.exact_blocks.walk import NONE, SIDE, SLOTS, walk

Mask = NDArray[np.uint8]  # (rows, columns) of blocks, 1 where a block is exact
SPARE = 64  # bytes beyond the information of all decisions
NOWHERE = np.zeros((0, 0, 3), np.uint8)


def block_grid(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of blocks of a picture; those at the right and bottom may be smaller."""
    return -(-height // SIDE), -(-width // SIDE)


def cost(pixels: NDArray[np.uint8], mask: Mask) -> NDArray[np.float64]:
    """Bits (rows, columns) that exact blocks of pixels (H, W, 3) take."""
    return _walk(pixels, pixels.shape[:2], mask.copy(), new_state(NOWHERE.ravel()), COUNT)


def settle(
    pixels: NDArray[np.uint8], mask: Mask, step: int, weight: float
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Exact blocks that are not quite what pixels (H, W, 3) were: their costs in bits (rows,
    columns), and the pixels that they should rather hold.

    Pixels of a colour of their own become one that is cheap there, or multiples of ``step`` levels,
    by bits and ``weight`` of them for the square of a level of a sample.
    """
    settled = pixels.copy()
    state = new_state(NOWHERE.ravel())
    costs = _walk(pixels, pixels.shape[:2], mask.copy(), state, SETTLE, settled, step, weight)
    return costs, settled


def encode(pixels: NDArray[np.uint8], mask: Mask) -> bytes:
    """Chunk of the exact blocks of pixels (H, W, 3)."""
    bits = float(cost(pixels, mask).sum()) + 16 * mask.size
    state = new_state(np.zeros(int(bits / 8 * 1.01) + SPARE, np.uint8))
    _walk(pixels, pixels.shape[:2], mask.copy(), state, WRITE)
    low, length = int(state.coder[0]), int(state.coder[3])
    if length >= len(state.data):
        raise RuntimeError(f"{length} bytes of exact blocks, more than their information")
    # the shortest end: behind it a reader finds zeros
    state.data[length] = (low >> 24) + 1 if low else 0
    return state.data[: length + 1].tobytes().rstrip(b"\0")


def paste(data: bytes, pixels: NDArray[np.uint8]) -> Mask:
    """Write the exact blocks of a chunk over pixels (H, W, 3), in place; returns which they are.

    Raises CorruptStream for what no encoder writes.
    """
    return _read(data, pixels.shape[1], pixels.shape[0], pixels)


def check(data: bytes, width: int, height: int) -> None:
    """Read a chunk of a picture of this size. Raises CorruptStream as ``paste`` does."""
    _read(data, width, height, NOWHERE)


def _read(data: bytes, width: int, height: int, pixels: NDArray[np.uint8]) -> Mask:
    mask = np.zeros(block_grid(width, height), np.uint8)
    state = new_state(np.frombuffer(data, np.uint8).copy())
    _walk(pixels, (height, width), mask, state, READ)
    if not mask.any() or data.endswith(b"\0") or len(data) > state.coder[3] + 1:
        raise CorruptStream("the exact blocks are not as an encoder writes them: damaged data")
    return mask


def _walk(
    pixels: NDArray[np.uint8],
    size: tuple[int, ...],
    mask: Mask,
    state: State,
    mode: int,
    settled: NDArray[np.uint8] = NOWHERE,
    step: int = 1,
    weight: float = 0.0,
) -> NDArray[np.float64]:
    memory = np.full((2, SLOTS), NONE, np.int32)
    counts = np.zeros((2, SLOTS), np.uint8)
    costs = np.zeros(mask.shape)
    if mode != READ:
        pixels = np.require(pixels, np.uint8, ["C", "W"])  # one type for the compiler
    walk(pixels, settled, step, weight, *size, mask, memory, counts, costs, state, mode)
    return costs
