"""Linear layers and convolutions in fixed point, with what comes before and after them."""

from __future__ import annotations

from torch import Tensor

from mambaic_kernels.dispatch import module_for
from mambaic_kernels.fixed_point.activation import Activation
from mambaic_kernels.fixed_product.places import Places

__all__ = ["Places", "directed", "product"]


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
    """plus + act(affine(G(multiplier * sum(weight * levels(x * times))) + bias)).

    Args:
        x: as ``places`` says.
        weight: integers (out, in or 1, side, side).
        multiplier: (out,) units of one of the sums; ``bias`` (out,), or (1,) of zero.
        levels: steps per unit of the input, and most steps of either sign.
        times: in the shape of ``x``.
        affine: factors (1 or B, out), after which the product is rounded, and shifts.
        plus: in the shape of the output.
    """
    found: Tensor = module_for(__name__, x).product(
        x, weight, multiplier, bias, levels, places, times, affine, act, plus
    )
    return found


def directed(
    x: Tensor,
    weight: Tensor,
    multiplier: Tensor,
    bias: Tensor,
    levels: tuple[float, float],
    act: Activation,
) -> Tensor:
    """Products of every direction by itself: x (B, H, W, K, R), weight (K, R, D), multiplier and
    bias (K, D) -> act of (B, H, W, K, D)."""
    found: Tensor = module_for(__name__, x).directed(x, weight, multiplier, bias, levels, act)
    return found
