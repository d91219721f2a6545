"""Counts what files ask of a GPU, without one: fake CUDA tensors carry shape, type and device and
compute nothing, so every operation passes by, and none takes time.

``python launches.py decode|encode WIDTH HEIGHT BATCH``: JSON of launches (operations that are not
views, each at least one kernel) and transfers between host and device by part, and coding steps.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mambaic_kernels.dispatch as dispatch
import mambaic_kernels.fixed_point as fixed_point
import mambaic_kernels.fixed_point.triton as triton
from mambaic.coding.batch import BatchDecoder, BatchEncoder
from mambaic.config import PRESETS
from mambaic.container.fields import latent_size, tile_grid
from mambaic.encoder.filter_fit import Fit
from mambaic.encoder.fit_regions import fit_tile
from mambaic.encoder.rotation_search import find_rotation
from mambaic.fixed_point import curves
from mambaic.models.model import MambaIC
from mambaic.reconstruction.filter_taps import TAPS
from mambaic.reconstruction.post_filter import PostFilter
from mambaic.reconstruction.rotation import Rotation
from mambaic.tiling.analysis import analyse
from mambaic.tiling.synthesis import Synthesis
from mambaic_kernels import transfers

# of operations that are more than one; a scan in chunks: their ends, what is
# carried, their rows, the sum of directions
KERNELS = {"mambaic.fixed_scan.default": 2, "mambaic.scan.default": 4}
# neither views nor launches
FREE = ("empty", "new_empty", "detach", "lift_fresh", "_unsafe_view", "prim.device")
QUALITY = 60.0
ROTATION = Rotation(3, -2, 1)
FILTER = PostFilter(tuple(tuple(0.1 for _ in taps) for taps in TAPS))


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
        if name.startswith("copy_") and len(come) > 1:
            self.transfers["between"] += 1
        elif come and go and come != go and len(come) == 1:
            self.transfers[f"{come.pop()} to {go.pop()}"] += 1
        elif name.startswith("_local_scalar_dense") and "cuda" in come:
            self.transfers["a number from cuda"] += 1
        elif "cuda" in come | go and not function.is_view and not name.startswith(FREE):
            with_bias = name.startswith("convolution") and args[2] is not None
            self.launches[name] += KERNELS.get(name, 1) + with_bias
        return out


class Zeros:
    """An encoder or decoder of one picture."""

    steps = 0

    def read(self, site: Any, indices: np.ndarray) -> np.ndarray:
        Zeros.steps += 1
        return np.zeros(indices.shape, dtype=np.float32)

    def write(self, site: Any, residuals: np.ndarray, indices: np.ndarray) -> np.ndarray:
        return self.read(site, indices)


class Parts:
    """What was counted, part by part."""

    def __init__(self, counting: Counting) -> None:
        self._counting = counting
        self.found: dict[str, dict[str, Any]] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        for counter in (self._counting.launches, self._counting.transfers):
            counter.clear()
        yield
        launches = self._counting.launches
        self.found[name] = {
            "launches": launches.total(),
            "transfers": dict(self._counting.transfers),
            "by_name": launches.most_common(),
        }


def to_fake_cuda(network: nn.Module) -> None:
    """Its parameters and buffers, in place."""
    for module in network.modules():
        for of_module in (module._parameters, module._buffers):
            for name, own in of_module.items():
                if own is not None:
                    fake: Tensor = torch.empty_like(own, device="cuda")
                    parameter = isinstance(own, nn.Parameter)
                    of_module[name] = nn.Parameter(fake, False) if parameter else fake


def prepare(counting: Counting) -> MambaIC:
    """A model on a GPU that is not there; what is moved is counted."""
    dispatch._missing = lambda backend: ""
    # numba's kernels take no fake tensors of the host
    fixed_point._backend = lambda x: triton if x.device.type == "cuda" else fixed_point.reference

    def to_host(x: Tensor) -> np.ndarray:
        counting.transfers["cuda to cpu"] += 1
        return np.zeros(x.shape, dtype=str(x.dtype).removeprefix("torch."))

    def to_device(values: np.ndarray, device: torch.device) -> Tensor:
        counting.transfers["cpu to cuda"] += 1
        return torch.empty(values.shape, device=device)

    transfers.to_host, transfers.to_device = to_host, to_device
    curves.numbers = lambda q: b"the same"
    model = MambaIC(PRESETS["s"]).eval().requires_grad_(False)
    twin = model.entropy_model._twin.of(model.entropy_model)
    model.entropy_model._twin.of = lambda network: twin
    with FakeTensorMode(allow_non_fake_inputs=True):
        to_fake_cuda(model)
        to_fake_cuda(twin)
    return model


def decode(model: MambaIC, parts: Parts, width: int, height: int, batch: int) -> None:
    size, entropy_model = latent_size(width, height), model.entropy_model
    with parts.part("walk"):
        weights = model.error_weights(QUALITY)
        coder = BatchDecoder([Zeros()] * batch)
        walked = list(entropy_model._walk_in_fixed_point(coder, batch, size, QUALITY, weights))
    latents = torch.cat(walked[0], dim=1)
    grid = tile_grid(width, height, 0)
    with parts.part("synthesis"):
        plain = Synthesis(model, width, height, grid, QUALITY, ROTATION, PostFilter())
        list(plain.run(lambda index: latents))
    with parts.part("synthesis and filter"):
        filtered = Synthesis(model, width, height, grid, QUALITY, ROTATION, FILTER)
        list(filtered.run(lambda index: latents))


def encode(model: MambaIC, parts: Parts, width: int, height: int, batch: int) -> None:
    size, entropy_model = latent_size(width, height), model.entropy_model
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    box = (0, 0, *size)
    with parts.part("rotation"):
        find_rotation(model, pixels, QUALITY)
    with parts.part("analysis"):
        y = analyse(model, pixels, box, QUALITY, ROTATION)
    with parts.part("walk"):
        y = y.expand(batch, -1, -1, -1)
        q = y.new_tensor([QUALITY])
        z = torch.cat([entropy_model.h_a(of, q) for of in y.split(1)])
        coder = BatchEncoder([Zeros()] * batch, {"y": y, "z": z})
        weights = model.error_weights(QUALITY)
        walked = list(entropy_model._walk_in_fixed_point(coder, batch, size, QUALITY, weights))
    with parts.part("filter"):
        latents = torch.cat(walked[0], dim=1)
        fit_tile(model, pixels, box, latents, QUALITY, ROTATION, [Fit()])


@torch.no_grad()
def main(way: str, *size: int) -> None:
    counting = Counting()
    model, parts = prepare(counting), Parts(counting)
    with FakeTensorMode(allow_non_fake_inputs=True), counting:
        (decode if way == "decode" else encode)(model, parts, *size)
    print(json.dumps({"parts": parts.found, "steps": Zeros.steps // size[2]}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
