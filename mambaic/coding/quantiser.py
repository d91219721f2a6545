"""The two quantisers: rounding for z, trellis-coded quantisation (TCQ) for y.

TCQ packs space better than rounding each latent alone. Each of 4,096 states offers one of two
quantisers of SPACING whose values interleave; the parity of a symbol decides the next state
(``mambaic_kernels.tcq``), and the state's class is part of the table context. The Viterbi algorithm
finds the path of least rate-distortion cost. A step's path begins at state 0, leads through its
sub-groups one after the other, and skips the latents that are not coded. Gains and
ablation: docs/design/quantisation.md.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mambaic.coding.sites import Site, as_rows, in_order
from mambaic.coding.symbols import SYMBOL_MAX, coded_places
from mambaic.coding.tables import RANGE_OF, RANGES, ROUNDED, SPACING, TCQ, scale_position
from mambaic_kernels.entropy_coder import sub_groups
from mambaic_kernels.tcq import cpu as tcq
from mambaic_kernels.threads import run

# Bits per squared error of a latent. At the 9 that theory gives for a quantiser of unit step at
# high rates, so many latents become zero that contexts are misled.
ERROR_WEIGHT = 60.0
# The expected value of a search is a logistic function of the residual between two values, of this
# width in units of the spacing; zero reaches further, as both quantisers offer it. Measured on
# files (docs/experiments/notebook.md, "What follows a residual").
WIDTH, ZERO_REACH = 0.05, 0.045


def uses_tcq(site: Site) -> bool:
    return site.latent != "z"


def spacing(latent: str) -> float:
    """Distance of the values that one quantiser offers, in units of the latents."""
    return 1.0 if latent == "z" else SPACING


def quantise(
    site: Site,
    residual: np.ndarray,
    indices: np.ndarray,
    rates: np.ndarray,
    skip: int,
    state: int = 0,
    *,
    rounded: bool = False,
    threads: int = 1,
) -> np.ndarray:
    """Symbols (n,) int32 of residuals (n,) float64 with scale indices (n,) int64 on a path from
    ``state``; ``rates`` as in ``Tables``. Under ``skip`` they are 0 or, if ``rounded``, nearest."""
    bounded = _bounded(site, residual)
    symbols = np.rint(bounded).astype(np.int32)
    if not rounded:
        symbols[indices < skip] = 0
    if uses_tcq(site):
        coded, at = coded_places(indices, skip, tcq=True)
        symbols[coded] = _search(bounded[coded], at, rates, state, threads)
    return symbols


def response(residual: Tensor, width: float = WIDTH) -> Tensor:
    """Expected slope of the value that a search finds over the residual, both in units of the
    spacing: 1 on average, 0 near the values, 2.5 between them; flatter with a larger ``width``."""
    size = residual.abs()
    cell = torch.floor(2 * size)
    middle = 0.5 * cell + 0.25 + ZERO_REACH * (cell == 0).to(size.dtype)
    risen = torch.sigmoid((size - middle) / width)
    return 0.5 / width * risen * (1 - risen)


def _search(
    bounded: np.ndarray, at: np.ndarray, rates: np.ndarray, state: int, threads: int = 1
) -> np.ndarray:
    of_classes = rates[TCQ:].reshape(tcq.CLASSES, -1, rates.shape[-1])
    weight = ERROR_WEIGHT * SPACING**2
    return tcq.search(bounded, at, of_classes, weight, state, threads=threads)


def _bounded(site: Site, residual: np.ndarray) -> np.ndarray:
    """Residuals in units of the spacing, of symbols that can be written."""
    return np.clip(residual / spacing(site.latent), -SYMBOL_MAX + 1, SYMBOL_MAX - 1)


def contexts(
    site: Site, symbols: np.ndarray, indices: np.ndarray, skip: int, state: int = 0
) -> tuple[np.ndarray, int]:
    """Table contexts (n,) int64 of symbols from ``state`` on, and the state after them."""
    if not uses_tcq(site):
        return np.full(len(symbols), ROUNDED), state
    context = np.empty(len(symbols), dtype=np.int64)
    state = sub_groups.contexts(
        symbols, indices, skip, RANGE_OF, TCQ, RANGES, state, tcq.CODE, context
    )
    return context, state


class Paths:
    """TCQ states that the paths of a batch have reached, from sub-group to sub-group."""

    def __init__(self, batch: int, skip: int) -> None:
        self._states = np.zeros(batch, dtype=np.int64)
        self._skip = skip

    def state(self, site: Site, row: int = 0) -> int:
        """The state in which the path of a picture reaches a site."""
        return 0 if site.begins else int(self._states[row])

    def follow(
        self, site: Site, symbols: np.ndarray, indices: np.ndarray, state: int, row: int = 0
    ) -> np.ndarray:
        """Kinds (n,) of symbols (n,) from ``state`` on; the path of a picture then is behind
        them."""
        context, self._states[row] = contexts(site, symbols, indices, self._skip, state)
        return context


class Search(Paths):
    """Finds the paths of least cost, of a batch."""

    def __init__(self, batch: int, rates: np.ndarray, skip: int, *, rounded: bool = False) -> None:
        super().__init__(batch, skip)
        self._rates, self._rounded = rates, rounded

    def find(
        self, site: Site, residual: np.ndarray, indices: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Symbols int32 and contexts int64 of residuals float64 with scale indices int64, all
        (B, n) in coding order."""
        symbols = np.empty(residual.shape, dtype=np.int32)
        contexts = np.empty(residual.shape, dtype=np.int64)
        # the pictures of a batch side by side, of one picture parts of its path
        threads = torch.get_num_threads() if len(residual) == 1 else 1

        def work(row: int, begin: int, end: int) -> None:
            state = self.state(site, row)
            operands = residual[row], indices[row], self._rates, self._skip, state
            symbols[row] = quantise(site, *operands, rounded=self._rounded, threads=threads)
            contexts[row] = self.follow(site, symbols[row], indices[row], state, row)

        run(work, [(row, row + 1) for row in range(len(symbols))])
        return symbols, contexts


def quantise_on_gpu(
    site: Site, residual: Tensor, log_scale: Tensor, rates: Tensor
) -> tuple[Tensor, Tensor]:
    """Symbols and contexts of rows (B, n, C) for training on a GPU, which never waits for the host:
    every latent is coded, and paths begin anew now and then (``mambaic_kernels.tcq.triton``).
    Its states are not those of files: ``rates`` (2, SCALE_COUNT, n) are those of the quantisers."""
    if not uses_tcq(site):
        return torch.round(residual), torch.full_like(residual, ROUNDED, dtype=torch.long)
    from mambaic_kernels.tcq import triton as tcq_triton

    indices = scale_position(in_order(log_scale)).long()
    symbols, odd = tcq_triton.search(
        in_order(residual) / SPACING, indices, rates, ERROR_WEIGHT * SPACING**2
    )
    context = TCQ + RANGES * odd
    symbols, context = (as_rows(found, residual.shape[-1]) for found in (symbols, context))
    return symbols.to(residual.dtype), context.long()
