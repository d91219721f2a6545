"""Products by torch's own kernels for CPUs; what comes before and after them by numba."""

from __future__ import annotations

import torch
from torch import Tensor

from mambaic_kernels import fixed_point
from mambaic_kernels.fixed_point import cpu
from mambaic_kernels.fixed_point.activation import LEAKY, SILU, SOFTPLUS, Activation
from mambaic_kernels.fixed_product.places import Places, sums
from mambaic_kernels.fixed_product.reference import along


def product(
    x: Tensor,
    weight: Tensor,
    multiplier: Tensor,
    bias: Tensor,
    levels: tuple[float, float],
    places: Places,
    times: Tensor | None = None,
    affine: tuple[Tensor, Tensor] | None = None,
    act: Activation | None = None,
    plus: Tensor | None = None,
) -> Tensor:
    """See ``mambaic_kernels.fixed_product.product``."""
    integers = cpu.to_levels(x if times is None else x * times, *levels)
    found = sums(integers, weight, places)
    found = fixed_point.rescale(found, multiplier, bias, places.out_channel)
    return finished(found, places, affine, act, plus)


def finished(
    found: Tensor,
    places: Places,
    affine: tuple[Tensor, Tensor] | None = None,
    act: Activation | None = None,
    plus: Tensor | None = None,
) -> Tensor:
    """See ``mambaic_kernels.fixed_product.finished``."""
    if affine is not None:
        factor, shift = (along(t, found, places) for t in affine)
        found = cpu.to_grid(found * factor).add_(shift)
    if act is not None:
        found = activate(found, act)
    return found if plus is None else found.add_(plus)


def directed(
    x: Tensor,
    weight: Tensor,
    multiplier: Tensor,
    bias: Tensor,
    levels: tuple[float, float],
    act: Activation,
) -> Tensor:
    """See ``mambaic_kernels.fixed_product.directed``."""
    integers = cpu.to_levels(x, *levels)
    found = torch.stack([integers[..., k, :] @ of for k, of in enumerate(weight)], dim=-2)
    rows = fixed_point.rescale(found.flatten(-2), multiplier.flatten(), bias.flatten(), -1)
    return activate(rows.view(found.shape), act)


def activate(x: Tensor, by: Activation) -> Tensor:
    """As ``activation.activate``."""
    if by.kind == LEAKY:
        return torch.maximum(x, cpu.to_grid(x * by.low))
    if by.kind == SOFTPLUS:
        return cpu.softplus(x, by.table, by.per_unit)
    found = cpu.look_up(x, by.table, by.low, by.per_unit)
    return cpu.to_grid(found.mul_(x)) if by.kind == SILU else found
