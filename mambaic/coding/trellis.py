"""The two quantisers: whole numbers for z, a trellis for y.

A trellis packs space better than rounding each latent alone. 256 states, each of which offers one
of two quantisers of SPACING whose values interleave; the parity of a symbol decides the next state
(``mambaic_kernels.trellis``). The path of a step that costs least is found by the Viterbi
algorithm, at the prices of the tables. A step's path begins at state 0 and passes by the latents
that are not coded. docs/training.md, "Trellis", has what it gains.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mambaic.coding.schedule import Site
from mambaic.coding.symbols import SYMBOL_MAX
from mambaic.coding.tables import EVEN, ODD, SPACING, WHOLE, level_position
from mambaic_kernels import trellis
from mambaic_kernels.simd import run

# Bits that a squared error of one latent is worth. Error alone would be infinite; the 9 that a
# quantiser of unit step has at a high rate zero so many latents that contexts are misled.
ERROR_WEIGHT = 60.0
# Spacing of a rounding whose error is as large as the trellis's: what stands in for it where a
# gradient is wanted, or where the search, which is a CPU's work, would hold up a GPU.
STAND_IN = 1.5


def has_trellis(site: Site) -> bool:
    return site.latent == "y"


def spacing(latent: str) -> float:
    """Distance of the values that one quantiser offers, in units of the latents."""
    return SPACING if latent == "y" else 1.0


def quantise(
    site: Site, residual: np.ndarray, levels: np.ndarray, prices: np.ndarray, skip: int
) -> np.ndarray:
    """Symbols (n,) int32 of a step: residuals (n,) float64 at levels (n,) int64, ``prices`` as in
    ``Tables``; zero at levels under ``skip``."""
    symbols = np.zeros(len(residual), dtype=np.int32)
    coded = levels >= skip
    bounded = np.clip(residual[coded] / spacing(site.latent), -SYMBOL_MAX + 1, SYMBOL_MAX - 1)
    if has_trellis(site):
        weight = ERROR_WEIGHT * SPACING**2
        symbols[coded] = trellis.search(bounded, levels[coded], prices[EVEN : ODD + 1], weight)
    else:
        symbols[coded] = np.rint(bounded)
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
    site: Site, residual: Tensor, log_scale: Tensor, prices: np.ndarray, skip: int
) -> tuple[Tensor, Tensor]:
    """``quantise`` and ``kinds`` of maps (B, C, H, W), on the site's lattice: symbols in the dtype
    of ``residual``, kinds int64; 0 elsewhere."""
    where = site.positions(*residual.shape[-2:]).to(residual.device)
    at_site = [t.flatten(2)[..., where] for t in (residual, level_position(log_scale))]
    rows, level_rows = (t.flatten(1).double().cpu().numpy() for t in at_site)

    found = np.empty((2, *rows.shape), dtype=np.int32)

    def task(row: int, first: int, last: int) -> None:
        levels = level_rows[row].astype(np.int64)
        found[0, row] = quantise(site, rows[row], levels, prices, skip)
        found[1, row] = kinds(site, found[0, row], levels, skip)

    run(task, [(row, row + 1) for row in range(len(rows))])
    maps = []
    for part, dtype in zip(found, (residual.dtype, torch.long), strict=True):
        full = torch.zeros(residual.shape, dtype=dtype, device=residual.device)
        full.flatten(2)[..., where] = torch.from_numpy(part).view(at_site[0].shape).to(full)
        maps.append(full)
    return maps[0], maps[1]
