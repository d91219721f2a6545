"""The two quantisers: whole numbers for z, a trellis for y.

A trellis packs space better than rounding each latent alone. 4,096 states, each of which offers one
of two quantisers of SPACING whose values interleave; the parity of a symbol decides the next state
(``mambaic_kernels.tcq.cpu``), whose class has sets of tables of its own. The path that costs least
is found by the Viterbi algorithm, at the prices of the tables. A step's path begins at state 0,
leads through its slices one after the other, and passes by the latents that are not coded.
docs/training.md, "Trellis", has what it gains.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mambaic.coding.sites import Site, as_rows, in_order
from mambaic.coding.symbols import SYMBOL_MAX, place
from mambaic.coding.tables import RANGES, SPACING, TRELLIS, WHOLE, level_position, next_range
from mambaic_kernels.simd import run
from mambaic_kernels.tcq import cpu as trellis

# Bits that a squared error of one latent is worth. Error alone would be infinite; the 9 that a
# quantiser of unit step has at a high rate zero so many latents that contexts are misled.
ERROR_WEIGHT = 60.0
# The value that a search finds changes by a half, in units of the spacing, where the residual is in
# the middle of two values, as a logistic function of this width; zero reaches further, as both
# quantisers offer it. Read off the searches of files (docs/training.md, "What follows a residual").
WIDTH, ZERO_REACH = 0.05, 0.045
# The end of a slice's path is found again when the next one's prior is known: how many of its coded
# latents, with how many coded ones among the first LOOK of the next slice. All paths worth taking
# are one over such a distance.
TAIL, AHEAD, LOOK = 256, 128, 1024


def has_trellis(site: Site) -> bool:
    return site.latent == "y"


def spacing(latent: str) -> float:
    """Distance of the values that one quantiser offers, in units of the latents."""
    return SPACING if latent == "y" else 1.0


def quantise(
    site: Site,
    residual: np.ndarray,
    levels: np.ndarray,
    prices: np.ndarray,
    skip: int,
    state: int = 0,
    *,
    rounded: bool = False,
    threads: int = 1,
) -> np.ndarray:
    """Symbols (n,) int32: residuals (n,) float64 at levels (n,) int64, ``prices`` as in ``Tables``,
    on a path from ``state`` on; at levels under ``skip`` zero or, if ``rounded``, the nearest. So
    many ``threads`` search."""
    coded = levels >= skip
    bounded = _bounded(site, residual)
    symbols = np.rint(bounded).astype(np.int32)
    if not rounded:
        symbols[~coded] = 0
    if has_trellis(site):
        at = place(levels[coded], trellis=True)
        symbols[coded] = _search(bounded[coded], at, prices, state, threads)
    return symbols


def settle(
    site: Site,
    symbols: np.ndarray,
    residual: np.ndarray,
    levels: np.ndarray,
    prices: np.ndarray,
    skip: int,
    state: int,
    ahead: tuple[np.ndarray, np.ndarray],
) -> None:
    """Change the end of ``symbols``, which ``quantise`` found, to what goes best with what follows
    on the same path: ``ahead`` are its residuals and levels."""
    coded, coming = np.flatnonzero(levels >= skip), np.flatnonzero(ahead[1] >= skip)[:AHEAD]
    first = max(0, len(coded) - TAIL)
    _, state = trellis.follow(symbols[coded[:first]], state)
    tail = coded[first:]
    bounded = _bounded(site, np.append(residual[tail], ahead[0][coming]))
    at = [place(part, trellis=True) for part in (levels[tail], ahead[1][coming])]
    symbols[tail] = _search(bounded, np.concatenate(at), prices, state)[: len(tail)]


def response(residual: Tensor, width: float = WIDTH) -> Tensor:
    """How fast the value that a search finds may be expected to change over the residual, both in
    units of the spacing: around 1 on the whole, 0 near the values, 2.5 between them; flatter with a
    larger ``width``."""
    size = residual.abs()
    cell = torch.floor(2 * size)
    middle = 0.5 * cell + 0.25 + ZERO_REACH * (cell == 0)
    risen = torch.sigmoid((size - middle) / width)
    return 0.5 / width * risen * (1 - risen)


def _search(
    bounded: np.ndarray, at: np.ndarray, prices: np.ndarray, state: int, threads: int = 1
) -> np.ndarray:
    of_classes = prices[TRELLIS:].reshape(trellis.CLASSES, -1, prices.shape[-1])
    weight = ERROR_WEIGHT * SPACING**2
    return trellis.search(bounded, at, of_classes, weight, state, threads=threads)


def _bounded(site: Site, residual: np.ndarray) -> np.ndarray:
    """Residuals in units of the spacing, of symbols that can be written."""
    return np.clip(residual / spacing(site.latent), -SYMBOL_MAX + 1, SYMBOL_MAX - 1)


def kinds(
    site: Site, symbols: np.ndarray, levels: np.ndarray, skip: int, state: int = 0
) -> tuple[np.ndarray, int]:
    """The set of tables that each symbol is of, (n,) int64, from ``state`` on, and the state after
    them."""
    if not has_trellis(site):
        return np.full(len(symbols), WHOLE), state
    kind = np.full(len(symbols), TRELLIS)
    coded = levels >= skip
    classes, state = trellis.follow(symbols[coded], state)
    kind[coded] += RANGES * classes + next_range(levels[coded])
    return kind, state


# what follows on the paths, residuals and levels (B, m), from symbols and kinds (B, n) so far
Look = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class Paths:
    """Where the paths of a batch are, from slice to slice."""

    def __init__(self, batch: int, skip: int) -> None:
        self._states = np.zeros(batch, dtype=np.int64)
        self._skip = skip

    def state(self, site: Site, row: int = 0) -> int:
        """The state in which the path of a picture reaches a site."""
        return 0 if site.begins else int(self._states[row])

    def follow(
        self, site: Site, symbols: np.ndarray, levels: np.ndarray, state: int, row: int = 0
    ) -> np.ndarray:
        """Kinds (n,) of symbols (n,) from ``state`` on; the path of a picture then is behind
        them."""
        kind, self._states[row] = kinds(site, symbols, levels, self._skip, state)
        return kind


class Search(Paths):
    """Finds the paths that cost least: ``quantise`` and ``settle`` for a batch."""

    def __init__(self, batch: int, prices: np.ndarray, skip: int, *, rounded: bool = False) -> None:
        super().__init__(batch, skip)
        self._prices, self._rounded = prices, rounded

    def find(
        self, site: Site, residual: np.ndarray, levels: np.ndarray, look: Look | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Symbols int32 and kinds int64 of residuals float64 at levels int64, all (B, n) in coding
        order. With ``look`` the slice that comes next is regarded."""
        symbols = np.empty(residual.shape, dtype=np.int32)
        kind = np.empty(residual.shape, dtype=np.int64)
        starts = [self.state(site, row) for row in range(len(residual))]
        # the pictures of a batch side by side, of one picture parts of its path
        threads = torch.get_num_threads() if len(residual) == 1 else 1

        def first(row: int, begin: int, end: int) -> None:
            operands = residual[row], levels[row], self._prices, self._skip, starts[row]
            symbols[row] = quantise(site, *operands, rounded=self._rounded, threads=threads)
            kind[row] = self.follow(site, symbols[row], levels[row], starts[row], row)

        def again(row: int, begin: int, end: int) -> None:
            operands = residual[row], levels[row], self._prices, self._skip, starts[row]
            settle(site, symbols[row], *operands, (coming[0][row], coming[1][row]))
            kind[row] = self.follow(site, symbols[row], levels[row], starts[row], row)

        rows = [(row, row + 1) for row in range(len(residual))]
        run(first, rows)
        if look is not None:
            coming = look(symbols, kind)
            run(again, rows)
        return symbols, kind


def quantise_on_gpu(
    site: Site, residual: Tensor, log_scale: Tensor, prices: Tensor
) -> tuple[Tensor, Tensor]:
    """Symbols and kinds of rows (B, n, C) for training on a GPU, which never waits for the host:
    every latent is coded, and paths begin anew now and then (``mambaic_kernels.tcq.triton``).
    Its states are not those of files: ``prices`` (2, levels, n) are those of the quantisers."""
    if not has_trellis(site):
        return torch.round(residual), torch.full_like(residual, WHOLE, dtype=torch.long)
    from mambaic_kernels.tcq import triton as trellis_triton

    levels = level_position(in_order(log_scale)).long()
    symbols, odd = trellis_triton.search(
        in_order(residual) / SPACING, levels, prices, ERROR_WEIGHT * SPACING**2
    )
    kind = TRELLIS + RANGES * odd
    symbols, kind = (as_rows(found, residual.shape[-1]) for found in (symbols, kind))
    return symbols.to(residual.dtype), kind.long()


def beginning(rows: Tensor) -> Tensor:
    """The first LOOK or more latents of rows (B, n, C) in coding order, as rows."""
    return rows[:, :LOOK, : -(-LOOK // rows.shape[1])]
