"""A layer with what comes before and after it, which its fixed-point twin does in one operation."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

Affine = tuple[Tensor, Tensor]  # factors and shifts of channels, broadcast to an output


class FusedLayer(nn.Module):
    """What can do all of ``product`` at once."""

    def fused(
        self,
        x: Tensor,
        *where: Any,
        times: Tensor | None = None,
        affine: Affine | None = None,
        act: nn.Module | None = None,
        plus: Tensor | None = None,
    ) -> Tensor:
        raise NotImplementedError


def product(
    layer: nn.Module,
    x: Tensor,
    *where: Any,
    times: Tensor | None = None,
    affine: Affine | None = None,
    act: nn.Module | None = None,
    plus: Tensor | None = None,
) -> Tensor:
    """plus + act(affine(layer(x * times, *where)))."""
    if isinstance(layer, FusedLayer):
        return layer.fused(x, *where, times=times, affine=affine, act=act, plus=plus)
    found: Tensor = layer(x if times is None else x * times, *where)
    if affine is not None:
        factor, shift = affine
        found = found * factor + shift
    if act is not None:
        found = act(found)
    return found if plus is None else plus + found
