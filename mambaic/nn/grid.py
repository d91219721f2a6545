"""Numbers of the fixed-point walk: integers held in float32.

Activations are multiples of UNIT. Sums whose order a device may choose are sums of integers under
EXACT, which float32 holds exactly; products are single IEEE operations, rounded to the grid before
anything is added to them, so that no compiler can fuse them; functions are tables. So every device
computes the same numbers, whatever its order of summation (docs/format.md, "Arithmetic").
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mambaic_kernels.fixed_point import to_grid
from mambaic_kernels.fixed_point.reference import PER_UNIT, UNIT

__all__ = ["EXACT", "PER_UNIT", "UNIT", "few_bits", "tabulate", "to_grid"]

EXACT = (1 << 24) - 1  # float32 holds every integer up to it
TABLE_BITS = 16  # significant bits of tables' values


def few_bits(values: np.ndarray) -> np.ndarray:
    """Rounded to TABLE_BITS significant bits, float32: so few that every mathematics library rounds
    to the same (a test looks at how near to a tie values lie)."""
    mantissa, exponent = np.frexp(np.asarray(values, dtype=np.float64))
    return np.ldexp(np.rint(np.ldexp(mantissa, TABLE_BITS)), exponent - TABLE_BITS).astype(
        np.float32
    )


@lru_cache(maxsize=32)  # a network has hundreds of tables, of few functions
def tabulate(
    function: Callable[[np.ndarray], np.ndarray], low: float, high: float, per_unit: float
) -> Tensor:
    """Values of a function at ``low``, ``low`` + 1 / per_unit, ..., ``high``. The same
    tensor for all who ask: not to be changed."""
    count = round((high - low) * per_unit) + 1
    return torch.from_numpy(few_bits(function(low + np.arange(count) / per_unit)))
