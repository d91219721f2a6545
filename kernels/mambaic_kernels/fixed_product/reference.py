"""The definition of products in fixed point: plain torch, one operation after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from mambaic_kernels.fixed_point.activation import Activation, activate
from mambaic_kernels.fixed_point.reference import rescale, to_grid, to_levels
from mambaic_kernels.fixed_product.places import Places, sums


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
    integers = to_levels(x if times is None else x * times, *levels)
    found = sums(integers, weight, places)
    found = rescale(found, *(along(t, found, places) for t in (multiplier, bias)))
    if affine is not None:
        factor, shift = (along(t, found, places) for t in affine)
        found = to_grid(found * factor).add_(shift)
    if act is not None:
        found = activate(found, act)
    return found if plus is None else found.add_(plus)


def along(vector: Tensor, like: Tensor, places: Places) -> Tensor:
    """(C,) or (B, C), so that it multiplies the channels of an output."""
    if vector.ndim == 1:
        vector = vector[None]
    between = (1,) * (like.ndim - 2)
    count, channels = vector.shape
    return vector.view(count, *((*between, channels) if places.of_rows else (channels, *between)))


def directed(
    x: Tensor,
    weight: Tensor,
    multiplier: Tensor,
    bias: Tensor,
    levels: tuple[float, float],
    act: Activation,
) -> Tensor:
    """See ``mambaic_kernels.fixed_product.directed``."""
    found = torch.einsum("bhwkr,krd->bhwkd", to_levels(x, *levels), weight)
    return activate(rescale(found, multiplier, bias), act)
