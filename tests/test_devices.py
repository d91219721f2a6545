"""CUDA without a CUDA device: fake tensors carry shape, type and device and compute nothing, so a
tensor made on the wrong device, or in a type that CUDA's autocast does not expect, is an error here
already; so is a tensor that a training step moves between host and device, which makes one of them
wait for the other. In a process of its own, as fake tensors would stay in caches."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from mambaic.config import PRESETS, VSSConfig

SCRIPT = """
import json
import sys
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
import mambaic_kernels.dispatch as dispatch
from mambaic.coding.step_coder import StepCoder
from mambaic.config import ModelConfig
from mambaic.models.model import MambaIC
from mambaic_train.config import TrainConfig
from mambaic_train.loss import rate_distortion

dispatch._missing = lambda backend: ""


class Transfers(TorchDispatchMode):
    # refuses what makes the host wait for the GPU
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        devices = [
            {t.device.type for t in tree_leaves(tree) if isinstance(t, torch.Tensor)}
            for tree in ((args, kwargs), out)
        ]
        assert not all(devices) or devices[0] == devices[1], f"{function} moves a tensor"
        assert "_local_scalar_dense" not in str(function), "a number is read from the GPU"
        return out


class Zeros(StepCoder):
    def _code_sub_group(self, site, prior):
        assert prior.log_scale.dtype == torch.float64
        return torch.zeros_like(prior.mean)


class Walk(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.entropy_model = model.entropy_model

    def forward(self, q):
        return self.entropy_model.walk((2, 3), q, Zeros())


def on_cuda(module, kind=torch.float32):
    named = (*module.named_parameters(), *module.named_buffers())
    return {
        name: torch.empty(t.shape, dtype=kind if t.is_floating_point() else t.dtype, device="cuda")
        .requires_grad_(t.requires_grad)
        for name, t in named
    }


def make(config, tables):
    model = MambaIC(ModelConfig.from_dict(config))
    if tables:
        model.entropy_model.update()
        model.entropy_model.tables.quantiser_rates  # made here, as fake tensors hold no numbers
    return model


def step_and_walk(model):
    # types and devices of the loss of a training step and of the walk
    x = torch.rand(2, 3, 128, 192, device="cuda").contiguous(memory_format=torch.channels_last)
    q = 100 * torch.rand(2, device="cuda")
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.set_autocast_enabled("cuda", True)
    weights = on_cuda(model)
    functional_call(model.train(), weights, (x, q))  # fills caches: matrices, masks
    with Transfers():
        output = functional_call(model, weights, (x, q))
    torch.set_autocast_enabled("cuda", False)
    assert output.x_hat.shape == x.shape
    loss = rate_distortion(x, q, output, model.config, TrainConfig(steps=1)).value
    assert loss.requires_grad
    found = {loss.device.type, loss.dtype}
    with torch.no_grad():
        walk = Walk(model.eval())
        y_hat = functional_call(walk, on_cuda(walk, torch.float64), (q[:1].double(),))
    assert y_hat.shape == (1, model.config.M, 8, 12)
    return sorted(map(str, found | {y_hat.device.type, y_hat.dtype}))


models = [make(*case) for case in json.loads(sys.argv[1])]
with FakeTensorMode():  # one for all, as caches keep its tensors
    for model in models:
        print(*step_and_walk(model))
"""

# every kind of layer of the presets s and paper, at the size of unit
SMALL_PAPER = dataclasses.replace(
    PRESETS["paper"],
    M=32,
    z_channels=8,
    groups=(8, 24),
    N=8,
    vss=VSSConfig(d_state=2, lines="flat"),
    context_width=16,
    halo=8,
)


def run(*cases):
    """(configuration, whether it has tables) each, in one process: its imports take longest."""
    given = json.dumps([(config.to_dict(), tables) for config, tables in cases])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, given], capture_output=True, text=True, check=False
    )
    expected = "cuda torch.float32 torch.float64"
    assert done.stdout.splitlines() == [expected] * len(cases), done.stderr


def test_training_step_and_walk_stay_on_cuda():
    run((PRESETS["unit"], True), (PRESETS["unit"], False), (SMALL_PAPER, False))


@pytest.mark.slow
def test_presets_stay_on_cuda():
    run((PRESETS["s"], True), (PRESETS["s"], False), (PRESETS["paper"], False))
