"""Which blocks of a picture are coded exactly, or nearly so, by cost.

A block has a cost of its own in the lossy code, estimated from its wavelet coefficients: a
quadratic error for small ones, bits that grow with the logarithm of large ones. Its exact cost is
counted by coding it. Below the highest qualities pixels of smooth edges become colours that cost
less, as far as the quality's weight of errors lets them. A quick look at the picture comes first,
which few photographs pass.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mambaic.imaging.colour_axes import PLANES
from mambaic.imaging.transparency import fill_hidden
from mambaic.reconstruction.exact_blocks import Mask, block_grid, cost, settle
from mambaic_kernels.exact_blocks.survey import survey
from mambaic_kernels.exact_blocks.walk import SIDE
from mambaic_kernels.wavelet.reference import analyse

REPEATED, OFTEN = 0.25, 0.5  # of the pixels of a block
SHARP = 8  # edges of a block
SOFT = 0.2  # of the pixels of a block, at most
SLOPE = 0.8  # bits of a coefficient that is twice as large in square
LEAST_GAIN = 400.0  # bits of a picture
BORDER = 300.0  # bits that an edge between an exact block and a lossy one costs
JOINING = 64.0  # bits that a block may cost more next to an exact one, as blank paper does
LEVELS = 4
# Of pixels that are rounded, of the step that is best for each of them alone: what follows depends
# on them. A file of steps under LEAST_STEP would be a third smaller, but to be exact is worth that.
SHARE, LEAST_STEP, LARGEST_STEP = 0.67, 4.0, 24
MARGIN = 16  # rows around a strip of blocks whose wavelet coefficients are looked at


class ExactBlocks(NamedTuple):
    """Which blocks of a picture are exact, and the picture (H, W, 3) uint8 with what they hold."""

    mask: Mask
    pixels: NDArray[np.uint8]


def choose_blocks(pixels: NDArray[np.uint8], weight: float) -> ExactBlocks | None:
    """Blocks of pixels (H, W, 3) to code exactly, None if they do not pay.

    ``weight`` is the loss in bits of a squared error of one sample in [0, 1].
    """
    promising, repeating = _surveyed(pixels)
    if not promising.any():
        return None
    gain, _ = _gain(pixels, promising, weight)
    chosen = gain > 0
    if gain[chosen].sum() < LEAST_GAIN + BORDER * _fewest_borders(chosen):
        return None
    tried = _joined(chosen, repeating)
    gain, _ = _gain(pixels, tried, weight)
    chosen = _joined(chosen & (gain > 0), tried & (gain > -JOINING))
    chosen = _widened(chosen, tried, gain)
    # again without the others, whose pixels have taught the contexts too
    gain, settled = _gain(pixels, chosen, weight)
    if gain.sum() < LEAST_GAIN + BORDER * _borders(chosen):
        return None
    return ExactBlocks(chosen.astype(np.uint8), settled)


def _fewest_borders(chosen: NDArray[np.bool_]) -> float:
    """Those of a square in a corner of the picture, of the chosen blocks or of all others: about
    the fewest, and quick to tell, where trying blank parts of a photograph takes a second."""
    count = int(chosen.sum())
    return 2 * math.sqrt(min(count, chosen.size - count))


def _borders(chosen: NDArray[np.bool_]) -> int:
    """Pairs of neighbours of which one is exact."""
    down, across = chosen[1:] != chosen[:-1], chosen[:, 1:] != chosen[:, :-1]
    return int(down.sum() + across.sum())


def _gain(
    pixels: NDArray[np.uint8], blocks: NDArray[np.bool_], weight: float
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Bits (rows, columns) by which exact blocks cost less than lossy ones, 0 for other blocks; and
    the picture with what they hold."""
    mask, step = blocks.astype(np.uint8), rounding_step(weight)
    costs, settled = cost(pixels, mask), pixels
    if step > 1:
        others = settle(pixels, mask, step, weight / 255**2)
        # letters that repeat are cheap as they are
        if others[0].sum() < costs.sum():
            costs, settled = others
    return _lossy_cost(pixels, blocks, weight) - costs, settled


def rounding_step(weight: float) -> int:
    """Levels that pixels are rounded to: the step of least ``log2(1 / step) + weight step^2 / 12``,
    SHARE of it; 1 where pixels stay what they are."""
    step = SHARE * 255 * math.sqrt(6 / (weight * math.log(2)))
    return 1 if step < LEAST_STEP else min(round(step), LARGEST_STEP)


def without(pixels: NDArray[np.uint8], mask: Mask) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) whose exact blocks go over smoothly from what is around them."""
    height, width = pixels.shape[:2]
    seen = np.repeat(np.where(mask, np.uint8(0), np.uint8(255)), SIDE, axis=0)[:height]
    seen = np.repeat(seen, SIDE, axis=1)[:, :width]
    filled = pixels.copy()
    if mask.all():
        filled[:] = 128  # of all constants that were tried the cheapest
    else:
        fill_hidden(filled, seen)
    return filled


def _surveyed(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Drawn blocks of many repeated pixels and sharp edges; all of some repeated pixels."""
    height, width = pixels.shape[:2]
    rows, columns = block_grid(width, height)
    repeated, sharp, soft = np.zeros((3, rows, columns), np.int64)
    survey(np.require(pixels, np.uint8, ["C", "W"]), repeated, sharp, soft)
    heights = np.minimum(SIDE, height - SIDE * np.arange(rows))
    widths = np.minimum(SIDE, width - SIDE * np.arange(columns))
    area = np.outer(heights, widths)
    promising = (repeated > OFTEN * area) & (sharp >= SHARP) & (soft < SOFT * area)
    return promising, repeated > REPEATED * area


def _joined(chosen: NDArray[np.bool_], others: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The chosen blocks, and of the others those that touch one, or one that does, and so on."""
    while True:
        padded = np.pad(chosen, 1)
        near = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
        wider = chosen | (near & others)
        if (wider == chosen).all():
            return chosen
        chosen = wider


def _widened(
    chosen: NDArray[np.bool_], tried: NDArray[np.bool_], gain: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """The chosen blocks, and tried ones that cost less than the borders that they spare."""
    while True:
        wider = chosen | (tried & (gain > _border_cost(chosen)))
        if (wider == chosen).all():
            return chosen
        chosen = wider


def _border_cost(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Bits that borders cost more with each block exact than without: negative among exact ones."""
    exact, all_around = (
        padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
        for padded in (np.pad(blocks.astype(np.float64), 1) for blocks in (chosen, chosen | True))
    )
    return BORDER * (all_around - 2 * exact)


def _lossy_cost(
    pixels: NDArray[np.uint8], blocks: NDArray[np.bool_], weight: float
) -> NDArray[np.float64]:
    """Expected loss of blocks in bits (rows, columns), 0 for the others."""
    costs = np.zeros(blocks.shape)
    columns = np.arange(SIDE * blocks.shape[1]).clip(max=pixels.shape[1] - 1)
    for row in np.flatnonzero(blocks.any(axis=1)):
        rows = np.arange(SIDE * row - MARGIN, SIDE * (row + 1) + MARGIN)
        strip = pixels[rows.clip(0, pixels.shape[0] - 1)][:, columns]
        costs[row] = _strip_cost(torch.from_numpy(strip).float() / 255, weight) * blocks[row]
    return costs


def _strip_cost(strip: Tensor, weight: float) -> NDArray[np.float32]:
    """Of the blocks of a strip (MARGIN + SIDE + MARGIN, columns * SIDE, 3) in [0, 1]."""
    low = torch.einsum("dc,hwc->dhw", torch.from_numpy(PLANES).float(), strip)
    total = low.new_zeros(strip.shape[1] // SIDE)
    for level in range(1, LEVELS + 1):
        low, *details = analyse(low)
        side = SIDE >> level
        own = torch.stack(details)[:, :, MARGIN >> level : (MARGIN + SIDE) >> level]
        costs = SLOPE * torch.log2(1 + math.log(2) / SLOPE * weight * own.square())
        total += costs.unflatten(3, (-1, side)).sum(dim=(0, 1, 2, 4))
    return total.numpy()
