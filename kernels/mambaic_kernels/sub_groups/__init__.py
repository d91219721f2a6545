"""What lies between the sub-groups of a coding step, in fixed point: rows (B, n, C)."""

from __future__ import annotations

from torch import Tensor

from mambaic_kernels.dispatch import module_for
from mambaic_kernels.sub_groups.reference import Tables

__all__ = ["Tables", "moved", "normalised"]


def normalised(
    coded: Tensor, mean: Tensor, log_scale: Tensor, tables: Tables
) -> tuple[Tensor, Tensor]:
    """Residuals of coded latents in units of their scale, (B, n, C), and MAGNITUDES features of
    their magnitudes, one after the other (B, n, MAGNITUDES * C)."""
    found: tuple[Tensor, Tensor] = module_for(__name__, coded).normalised(
        coded, mean, log_scale, tables
    )
    return found


def moved(mean: Tensor, log_scale: Tensor, by: Tensor, tables: Tables) -> Tensor:
    """Means, moved ``by`` so many scales."""
    found: Tensor = module_for(__name__, mean).moved(mean, log_scale, by, tables)
    return found
