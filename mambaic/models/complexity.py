"""Parameters and multiply-accumulates per pixel of a configuration, counted by running it.

Every convolution, linear layer, attention product and scan of one forward pass is counted with the
shapes it really sees; a scan costs 3 multiply-accumulates per state update (decay, input, output).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mambaic.config import ModelConfig
from mambaic.models.model import MambaIC
from mambaic.nn.attention import WindowAttention
from mambaic.nn.vss import DIRECTIONS, SS2D

SIDE = 512
SCAN_MACS = 3


def _macs(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> int:
    """Multiply-accumulates of one call, without those of submodules."""
    if isinstance(module, nn.ConvTranspose2d):
        return int(inputs[0].numel() * module.weight[0].numel())
    if isinstance(module, nn.Conv2d):
        return int(output.numel() * module.weight[0].numel())
    if isinstance(module, nn.Linear):
        return int(output.numel() * module.in_features)
    if isinstance(module, WindowAttention):
        keys = module.window**2
        return int(2 * output.numel() * keys)
    if isinstance(module, SS2D):
        per_position = SCAN_MACS * module.d_state + module.rank
        return int(inputs[0].numel() * DIRECTIONS * per_position)
    return 0


def count(config: ModelConfig) -> dict[str, Any]:
    """``parameters`` (total and by part) and ``kmac_per_pixel`` of encoder and decoder by part."""
    with torch.random.fork_rng(devices=[]):
        model = MambaIC(config)
    parts = {
        "analysis": model.transform.analysis,
        "synthesis": model.transform.synthesis,
        "hyper_analysis": model.entropy_model.h_a,
        "hyper_synthesis": model.entropy_model.h_s,
        "context": nn.ModuleList([model.entropy_model.groups, model.entropy_model.refine]),
    }
    macs = dict.fromkeys(parts, 0)
    handles = []

    def counter(part: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            macs[part] += _macs(module, inputs, output)

        return hook

    for name, part in parts.items():
        for module in part.modules():
            if isinstance(
                module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | WindowAttention | SS2D
            ):
                handles.append(module.register_forward_hook(counter(name)))
    x, q = torch.rand(1, 3, SIDE, SIDE), torch.tensor([50.0])
    with torch.no_grad():
        model(x, q)
    for handle in handles:
        handle.remove()
    kmac = {name: value / SIDE**2 / 1000 for name, value in macs.items()}
    shared = kmac["hyper_synthesis"] + kmac["context"]
    return {
        "preset": config.name,
        "parameters": {
            "total": sum(p.numel() for p in model.parameters()),
            **{n: sum(p.numel() for p in m.parameters()) for n, m in parts.items()},
        },
        "kmac_per_pixel": {
            "encoder": kmac["analysis"] + kmac["hyper_analysis"] + shared,
            "decoder": kmac["synthesis"] + shared,
            **kmac,
        },
    }
