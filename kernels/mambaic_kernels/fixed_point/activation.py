"""Functions of single numbers in fixed point, as data: a kernel applies them to what it makes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from mambaic_kernels.fixed_point.reference import look_up, softplus, to_grid

LEAKY, TABLE, SILU, SOFTPLUS = range(1, 5)  # 0 is none


class Activation(NamedTuple):
    """LEAKY: max(x, G(``low`` x)). TABLE: ``values`` at x in steps of 1 / ``per_unit`` from
    ``low``. SILU: G of x times that. SOFTPLUS: max(x, 0) plus ``values`` at |x|."""

    kind: int
    low: float
    per_unit: float = 0.0
    values: Tensor | None = None

    @property
    def table(self) -> Tensor:
        assert self.values is not None
        return self.values


def activate(x: Tensor, by: Activation) -> Tensor:
    """The definition."""
    if by.kind == LEAKY:
        return x.maximum(to_grid(x * by.low))
    if by.kind == SOFTPLUS:
        return softplus(x, by.table, by.per_unit)
    found = look_up(x, by.table, by.low, by.per_unit)
    return to_grid(found.mul_(x)) if by.kind == SILU else found
