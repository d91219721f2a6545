"""Makes the fixed-point twin of a network, and measures what its layers take in.

The forward code is the network's own: only its leaves are replaced. *Reaches* are the largest
magnitudes that leaves with weights saw of photographs, one for every input, in the order of
``_measured``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mambaic.config import MOST_LEVELS
from mambaic.fixed_point import curves, functions, layers
from mambaic.nn.attention import AttentionCore, WindowCore
from mambaic.nn.blocks import OF_FEATURES, QualityModulation
from mambaic.nn.functions import Energy, Exp, Grid, LogFeatures, Move, Normalise
from mambaic.nn.gains import QualityCurve, TypicalScale
from mambaic.nn.vss import SS2D, LowRank

M = TypeVar("M", bound=nn.Module)

# how many inputs are measured
MEASURED: dict[type[nn.Module], int] = {
    nn.Linear: 1, nn.Conv2d: 1, nn.LayerNorm: 1, LowRank: 1, AttentionCore: 3
}  # fmt: skip
# twins of leaves that are not measured, and of networks that are replaced with all that is in them
OTHERS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    QualityCurve: curves.FixedQualityCurve,
    TypicalScale: curves.FixedTypicalScale,
    QualityModulation: curves.FixedModulation,
    Energy: lambda energy: functions.FixedEnergy(),
    Grid: lambda grid: functions.FixedGrid(),
    Exp: lambda exp: functions.FixedExp(),
    Normalise: lambda normalise: functions.FixedNormalise(normalise.bounds),
    Move: lambda move: functions.FixedMove(move.bounds),
    LogFeatures: lambda features: functions.FixedLogFeatures(),
    nn.SiLU: lambda silu: functions.FixedSiLU(),
    nn.Sigmoid: lambda sigmoid: functions.FixedSigmoid(),
    nn.Tanh: lambda tanh: functions.FixedTanh(),
    nn.LeakyReLU: lambda leaky: functions.FixedLeakyReLU(leaky.negative_slope),
}


def _inputs(module: nn.Module) -> int:
    return next((count for kind, count in MEASURED.items() if isinstance(module, kind)), 0)


def _measured(network: nn.Module) -> Iterator[nn.Module]:
    """Leaves whose inputs are measured, each once, in the order of the network's definition."""
    for child in network.children():
        if _inputs(child):
            yield child
        elif type(child) not in OTHERS:
            yield from _measured(child)


def reach_count(network: nn.Module) -> int:
    """How many reaches a network has."""
    return sum(map(_inputs, _measured(network)))


@contextmanager
def measuring(network: nn.Module, reaches: Tensor) -> Iterator[None]:
    """Raise ``reaches`` (n,) to what the leaves see meanwhile."""
    handles, first = [], 0
    for leaf in _measured(network):
        own = reaches[first : first + _inputs(leaf)]
        first += len(own)

        def look(leaf: nn.Module, inputs: tuple[Tensor, ...], own: Tensor = own) -> None:
            seen = torch.stack([x.detach().abs().amax().float() for x in inputs[: len(own)]])
            if isinstance(leaf, OF_FEATURES):
                seen = torch.asinh(seen)
            own.copy_(torch.maximum(own, seen.to(own)))

        handles.append(leaf.register_forward_pre_hook(look))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def twin(network: M, reaches: Tensor, most: int = MOST_LEVELS) -> M:
    """The fixed-point twin of a network; ``reaches`` as ``measuring`` found them. Inputs of its
    products have at most ``most`` levels of either sign."""
    found = copy.deepcopy(network)
    values = iter(reaches.tolist())
    of_leaf = {id(leaf): [next(values) for _ in range(_inputs(leaf))] for leaf in _measured(found)}
    _replace_leaves(found, of_leaf, most)
    device = next(network.parameters()).device
    found = found.requires_grad_(False).to(device).to(memory_format=torch.channels_last)
    curves.share_uploads(found)
    return found


def _replace_leaves(network: nn.Module, reaches: dict[int, list[float]], most: int) -> None:
    for name, child in list(network.named_children()):
        other = _twin_of(child, reaches, most)
        if other is None:
            _replace_leaves(child, reaches, most)
        else:
            network.add_module(name, other)


def _twin_of(module: nn.Module, reaches: dict[int, list[float]], most: int) -> nn.Module | None:
    own = reaches.get(id(module), [])
    if isinstance(module, SS2D):
        in_proj = layers.FixedProduct(module.in_proj, reaches[id(module.in_proj)][0], most)
        return layers.FixedSS2D(module, in_proj, *reaches[id(module.low_rank)])
    if isinstance(module, nn.Linear | nn.Conv2d):
        return layers.FixedProduct(module, own[0], most)
    if isinstance(module, nn.LayerNorm):
        return layers.FixedNorm(module, *own)
    if isinstance(module, WindowCore):
        return layers.FixedAttention(*reaches[id(module.core)])
    make = OTHERS.get(type(module))
    return make(module) if make else None
