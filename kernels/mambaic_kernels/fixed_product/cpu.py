"""Products by torch's own kernels for CPUs; what comes before and after them by numba."""

from __future__ import annotations

from torch import Tensor

from mambaic_kernels.fixed_point.activation import Activation
from mambaic_kernels.fixed_product.passes import finish, levels
from mambaic_kernels.fixed_product.places import Places, sums
from mambaic_kernels.fixed_product.reference import directed

__all__ = ["directed", "product"]


def product(
    x: Tensor,
    weight: Tensor,
    multiplier: Tensor,
    bias: Tensor,
    steps: tuple[float, float],
    places: Places,
    times: Tensor | None = None,
    affine: tuple[Tensor, Tensor] | None = None,
    act: Activation | None = None,
    plus: Tensor | None = None,
) -> Tensor:
    """See ``mambaic_kernels.fixed_product.product``."""
    found = sums(levels(x, *steps, places.channel, times), weight, places)
    return finish(found, multiplier, bias, places.out_channel, affine=affine, act=act, plus=plus)
