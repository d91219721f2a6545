"""Counts what a training step asks of a GPU, without one: on the meta device tensors carry shape
and type and compute nothing, backward pass and optimiser included.

``python meta_step.py PRESET TABLES``: JSON with the launches of a step (operations that are not
views, each at least one kernel), by name, and the shapes that the host sends. A number that the
host would have to wait for is an error, as the device has none.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from torch import Tensor
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mambaic_kernels.dispatch as dispatch
import mambaic_kernels.fixed_point as fixed_point
import mambaic_kernels.fixed_point.reference as reference
import mambaic_kernels.scan.interface as scan
from mambaic.config import PRESETS
from mambaic.models.model import MambaIC
from mambaic_train import loop
from mambaic_train.batches import Batches
from mambaic_train.config import TrainConfig
from mambaic_train.data import PhotoSet

KERNELS = {"mambaic.trellis_search.default": 3}  # of operations that are more than one
FREE = ("empty", "new_empty", "detach", "lift_fresh", "_unsafe_view")  # neither views nor launches


class Counting(TorchDispatchMode):
    """Launches on the device by name, and what is sent there."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()
        self.sent: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        come, go = (
            {t.device.type for t in tree_leaves(tree) if isinstance(t, Tensor)}
            for tree in ((args, kwargs), out)
        )
        name = str(function).removeprefix("aten.")
        assert not ("meta" in come and go == {"cpu"}), f"{name} waits for the device"
        if come == {"cpu"} and go == {"meta"}:
            self.sent.append(tuple(out.shape))
        elif "meta" in come | go and not function.is_view and not name.startswith(FREE):
            self.launches[name] += KERNELS.get(name, 1)
        return out


def as_on_a_gpu() -> None:
    """Kernels of GPUs, and what the meta device lacks."""
    for module in (dispatch, scan):
        module.pick = lambda backend, device: "triton"
    fixed_point._backend = lambda x: reference
    torch.autocast = lambda *args, **kwargs: contextlib.nullcontext()
    sys.modules["torch.optim.adam"]._device_dtype_check_for_fused = lambda parameter: None
    _foreach_utils._get_foreach_kernels_supported_devices = lambda: ["meta"]


def main(preset: str, tables: bool) -> None:
    as_on_a_gpu()
    model = MambaIC(PRESETS[preset])
    if tables:
        model.entropy_model.update()
    config = TrainConfig(
        preset=preset, steps=100, batch=4, crop=128, large_crop=128, precision="fp32"
    )
    with TemporaryDirectory() as folder:
        Image.new("RGB", (160, 144)).save(Path(folder) / "0.png")
        data = PhotoSet([Path(folder)], min_side=64)
    trainer = loop.Trainer(model, config, "meta")
    trainer.readings.lag = 10
    trainer._batches = Batches(data, 0, "meta", memory=data.bytes)
    trainer.run_step(data)  # makes caches and the optimiser's state
    with Counting() as counting:
        assert trainer.run_step(data) == []
    by_name = dict(counting.launches.most_common())
    found = {"launches": counting.launches.total(), "by_name": by_name, "sent": counting.sent}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "tables")
