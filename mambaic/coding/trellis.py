"""The two quantisers: whole numbers for z, a trellis for y.

A trellis packs space better than rounding each latent alone. 4,096 states, each of which offers one
of two quantisers of SPACING whose values interleave; the parity of a symbol decides the next state
(``mambaic_kernels.trellis``). The path of a step that costs least is found by the Viterbi
algorithm, at the prices of the tables. A step's path begins at state 0 and passes by the latents
that are not coded. docs/training.md, "Trellis", has what it gains.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mambaic.coding.schedule import Site, as_rows, in_order
from mambaic.coding.symbols import SYMBOL_MAX
from mambaic.coding.tables import EVEN, ODD, SPACING, WHOLE, level_position
from mambaic_kernels import trellis
from mambaic_kernels.simd import run

# Bits that a squared error of one latent is worth. Error alone would be infinite; the 9 that a
# quantiser of unit step has at a high rate zero so many latents that contexts are misled.
ERROR_WEIGHT = 60.0


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
    *,
    rounded: bool = False,
) -> np.ndarray:
    """Symbols (n,) int32 of a step: residuals (n,) float64 at levels (n,) int64, ``prices`` as in
    ``Tables``; at levels under ``skip`` zero or, if ``rounded``, the nearest."""
    coded = levels >= skip
    bounded = np.clip(residual / spacing(site.latent), -SYMBOL_MAX + 1, SYMBOL_MAX - 1)
    symbols = np.rint(bounded).astype(np.int32)
    if not rounded:
        symbols[~coded] = 0
    if has_trellis(site):
        weight = ERROR_WEIGHT * SPACING**2
        operands = bounded[coded], levels[coded], prices[EVEN : ODD + 1]
        symbols[coded] = trellis.search(*operands, weight)
    return symbols


def kinds(site: Site, symbols: np.ndarray, levels: np.ndarray, skip: int) -> np.ndarray:
    """The set of tables that each symbol is of, (n,) int64: WHOLE, EVEN or ODD."""
    if not has_trellis(site):
        return np.full(len(symbols), WHOLE)
    kind = np.full(len(symbols), EVEN)
    coded = levels >= skip
    kind[coded] += (ODD - EVEN) * trellis.follow(symbols[coded])
    return kind


def quantise_batch(
    site: Site,
    residual: Tensor,
    log_scale: Tensor,
    prices: np.ndarray,
    skip: int,
    *,
    rounded: bool = False,
) -> tuple[Tensor, Tensor]:
    """``quantise`` and ``kinds`` of rows (B, n, C): symbols in the dtype of ``residual``, kinds
    int64."""
    rows, level_rows = (t.double().cpu().numpy() for t in _ordered(residual, log_scale))

    found = np.empty((2, *rows.shape), dtype=np.int32)

    def task(row: int, first: int, last: int) -> None:
        levels = level_rows[row].astype(np.int64)
        found[0, row] = quantise(site, rows[row], levels, prices, skip, rounded=rounded)
        found[1, row] = kinds(site, found[0, row], levels, skip)

    run(task, [(row, row + 1) for row in range(len(rows))])
    channels, device = residual.shape[-1], residual.device
    symbols, kind = (as_rows(torch.from_numpy(part), channels).to(device) for part in found)
    return symbols.to(residual.dtype), kind.long()


def quantise_on_gpu(
    site: Site, residual: Tensor, log_scale: Tensor, prices: Tensor
) -> tuple[Tensor, Tensor]:
    """``quantise_batch`` for training on a GPU, which never waits for the host: every latent is
    coded, and paths begin anew now and then (``mambaic_kernels.trellis_triton``)."""
    if not has_trellis(site):
        return torch.round(residual), torch.full_like(residual, WHOLE, dtype=torch.long)
    from mambaic_kernels import trellis_triton

    rows, position = _ordered(residual, log_scale)
    symbols, odd = trellis_triton.search(
        rows / SPACING, position.long(), prices[EVEN : ODD + 1], ERROR_WEIGHT * SPACING**2
    )
    kind = EVEN + (ODD - EVEN) * odd
    symbols, kind = (as_rows(found, residual.shape[-1]) for found in (symbols, kind))
    return symbols.to(residual.dtype), kind.long()


def _ordered(residual: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Residuals and level positions of rows (B, n, C), each (B, C * n) in coding order."""
    return in_order(residual), level_position(in_order(log_scale))
