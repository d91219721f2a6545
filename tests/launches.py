"""Counts what the walk of files asks of a GPU, without one: fake CUDA tensors carry shape, type and
device and compute nothing, so every operation passes by, and none takes time.

``python launches.py ROWS COLUMNS BATCH``: JSON with the launches (operations that are not views,
each at least one kernel), transfers between host and device, and coding steps.
"""

from __future__ import annotations

import json
import sys
from collections import Counter

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mambaic_kernels.dispatch as dispatch
import mambaic_kernels.fixed_point as fixed_point
import mambaic_kernels.fixed_point.triton as triton
from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import Site
from mambaic.coding.step_coder import StepCoder, index_rows, rows_like
from mambaic.config import PRESETS
from mambaic.models.model import MambaIC

KERNELS = {"mambaic.fixed_scan.default": 2}  # of operations that are more than one
FREE = ("empty", "new_empty", "detach", "lift_fresh", "_unsafe_view")  # neither views nor launches


class Counting(TorchDispatchMode):
    """Launches on CUDA by name, and transfers."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()
        self.transfers: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        come, go = (
            {t.device.type for t in tree_leaves(tree) if isinstance(t, Tensor)}
            for tree in ((args, kwargs), out)
        )
        name = str(function).removeprefix("aten.")
        if come and go and come != go and len(come) == 1:
            self.transfers[f"{come.pop()} to {go.pop()}"] += 1
        elif name.startswith("_local_scalar_dense") and "cuda" in come:
            self.transfers["a number from cuda"] += 1
        elif "cuda" in go and not function.is_view and not name.startswith(FREE):
            self.launches[name] += KERNELS.get(name, 1)
        return out


class Zeros(StepCoder):
    """Moves what a decoder moves, and decodes zeros."""

    steps = 0

    def _code_sub_group(self, site: Site, prior: Prior) -> Tensor:
        Zeros.steps += 1
        index_rows(prior.log_scale).cpu()
        zeros = np.zeros((len(prior.mean), prior.mean[0].numel()), dtype=np.float32)
        return rows_like(zeros, prior.mean) + prior.mean


class Walk(torch.nn.Module):
    def __init__(self, twin, size: tuple[int, int]) -> None:
        super().__init__()
        self.twin, self.size = twin, size

    def forward(self, q: Tensor) -> Tensor:
        return self.twin.walk((self.size[0] // 4, self.size[1] // 4), q, Zeros())


def on_cuda(module: torch.nn.Module) -> dict[str, Tensor]:
    named = (*module.named_parameters(), *module.named_buffers())
    return {name: torch.empty(t.shape, dtype=t.dtype, device="cuda") for name, t in named}


@torch.no_grad()
def main(rows: int, columns: int, batch: int) -> None:
    dispatch._missing = lambda backend: ""
    # numba's kernels take no fake tensors of the host
    fixed_point._backend = lambda x: triton if x.device.type == "cuda" else fixed_point.reference
    model = MambaIC(PRESETS["s"]).eval()
    twin = model.entropy_model._twin.of(model.entropy_model)
    walk = Walk(twin, (rows, columns))
    with FakeTensorMode(allow_non_fake_inputs=True):
        weights, q = on_cuda(walk), torch.empty(batch)
        with Counting() as counting:
            y_hat = functional_call(walk, weights, (q,))
    assert y_hat.shape == (batch, model.config.M, rows, columns)
    assert y_hat.device.type == "cuda"
    found = {
        "launches": counting.launches.total(),
        "by_name": counting.launches.most_common(),
        "transfers": counting.transfers,
        "steps": Zeros.steps,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
