"""How strong the grain of a picture is to be: measured where its reconstruction lacks texture.

Of blocks of the error that is left, the spread in each band, as its median tells it, so that edges
and other structure do not count; then, over all blocks, a line from knot to knot of the expected
error. The post-filter, which takes a few percent of the squared error, has not been found yet.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mambaic.reconstruction.grain import (
    BANDS,
    FIRST_KNOTS,
    KNOTS,
    LEVEL,
    LOWEST_KNOT,
    REACH,
    STEP,
    Grain,
    bands,
    hats,
    mean_square,
    share,
)
from mambaic.reconstruction.post_filter import Reconstruction

# Of the bands, less than there was: noise is not the texture that is missing, and metrics as well
# as eyes take coarse noise for more of an error than fine one (docs/design/grain.md).
GAINS = (0.7, 0.2)
BLOCK = 16  # pixels a side
NORMAL = 0.6745  # median size of a normal variable of standard deviation 1
LEAST = LEVEL / 16  # smaller spreads count as this, which makes no grain
EVEN = 0.03  # pull of a knot towards the next one, of the weight of all blocks
MIN_BLOCKS = 16


class GrainEstimate:
    """Collects blocks, region by region; then finds the grain."""

    def __init__(self) -> None:
        self._blocks: list[Tensor] = []

    def add(self, reconstruction: Reconstruction, x: Tensor) -> None:
        """A region as in ``Comparison``, at whose borders REACH pixels do not count."""
        rows, columns = (REACH + BLOCK * ((side - 2 * REACH) // BLOCK) for side in x.shape[1:])
        if min(rows, columns) < REACH + BLOCK:
            return
        inner = slice(REACH, rows), slice(REACH, columns)
        missing = (x - reconstruction.x_hat).mean(dim=0)[: rows + REACH, : columns + REACH]
        cut = reconstruction.cut(*inner)
        error = mean_square(cut.deviation, BLOCK)
        sizes = [_median_size(band) / NORMAL for band in bands(missing)]
        found = torch.stack([error, share(cut, error, BLOCK), *sizes])
        self._blocks.append(found.flatten(1).cpu())

    def found(self, seed: int = 0) -> Grain | None:
        """None where nothing is missing that looks like noise, or the picture is too small."""
        if sum(part.shape[1] for part in self._blocks) < MIN_BLOCKS:
            return None
        error, part, *sizes = torch.cat(self._blocks, dim=1).double()
        first = round(float((error.quantile(0.05) / LOWEST_KNOT**2).log2()))
        first = min(max(first, 0), FIRST_KNOTS - 1)
        at_knots = _lines(hats(error, first).T.numpy(), part, torch.stack(sizes, dim=1))
        strengths = [GAINS * strengths_for(spreads) for spreads in at_knots]
        steps = np.rint(np.stack(strengths, axis=1) / STEP).clip(0, 255).astype(int)
        return Grain(seed, first, tuple(map(tuple, steps.tolist()))) if steps.any() else None

    @classmethod
    def of(cls, parts: list[GrainEstimate]) -> GrainEstimate:
        """One of the regions of all of them."""
        total = cls()
        total._blocks = [block for part in parts for block in part._blocks]
        return total


def _median_size(band: Tensor) -> Tensor:
    blocks = band.abs().unfold(0, BLOCK, BLOCK).unfold(1, BLOCK, BLOCK)
    return blocks.flatten(2).median(dim=2).values


def _lines(hats_of: NDArray[np.float64], part: Tensor, sizes: Tensor) -> NDArray[np.float64]:
    """Spreads (KNOTS, BANDS) of all grain, by least squares of the logs of what blocks lack."""
    weights = part.sqrt().numpy()[:, None]
    wanted = (sizes / part[:, None]).clamp(min=LEAST).log().numpy()
    rises = np.diff(np.eye(KNOTS), axis=0) * (EVEN * len(wanted)) ** 0.5
    left = np.concatenate([weights * hats_of, rises])
    right = np.concatenate([weights * wanted, np.zeros((len(rises), BANDS))])
    found: NDArray[np.float64] = np.exp(np.linalg.lstsq(left, right, rcond=None)[0])
    return found


def strengths_for(spreads: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviations of noise in each band such that bands of their sum have these: bands
    overlap, so they add to each other. Found in multiplicative steps, as none is negative."""
    shared = _shared()
    found = spreads / np.sqrt(np.einsum("bbb->b", shared))
    for _ in range(100):
        found *= (spreads / np.sqrt(np.einsum("bij,i,j->b", shared, found, found))) ** 0.5
    return found


@lru_cache(maxsize=1)
def _shared() -> NDArray[np.float64]:
    """Covariances (BANDS, BANDS, BANDS) of what the first one makes of noise in the two others."""
    impulse = torch.zeros(64, 64, dtype=torch.float64)
    impulse[32, 32] = 1
    filters = torch.stack([torch.fft.fft2(band).abs() for band in bands(impulse)])
    noise = filters / filters.square().mean(dim=(1, 2), keepdim=True).sqrt()
    of_all = torch.einsum("bhw,ihw,jhw->bij", filters.square(), noise, noise)
    return (of_all / filters[0].numel()).numpy()
