"""What the quality decides, computed on the host and moved to a device once for each quality."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mambaic.fixed_point.functions import FixedExp, FixedTanh
from mambaic.nn.blocks import QualityModulation, quality_features
from mambaic.nn.gains import QualityCurve, TypicalScale, interpolated
from mambaic.nn.grid import to_grid
from mambaic.nn.products import Affine

KEPT = 16  # qualities, of batches, whose vectors stay on a device


class OfQuality(nn.Module):
    """Vectors that depend on the quality alone."""

    device_of: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("device_of", torch.zeros(0), persistent=False)
        self.uploads: Uploads | None = None

    def on_host(self, q: Tensor) -> list[Tensor]:
        """Of qualities (B,) on the host: float32 (B, n) each."""
        raise NotImplementedError

    def on_device(self, q: Tensor) -> list[Tensor]:
        device = self.device_of.device
        if self.uploads is not None:
            return self.uploads.of(self, q.cpu(), device)
        return [of.to(device) for of in self.on_host(q.cpu())]


class Uploads:
    """The vectors of all modules of a network, which a device gets in one transfer."""

    def __init__(self, modules: Sequence[OfQuality]) -> None:
        self._modules = modules
        self._kept: OrderedDict[tuple[torch.device, bytes], list[list[Tensor]]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, module: OfQuality, q: Tensor, device: torch.device) -> list[Tensor]:
        key = device, numbers(q)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._moved(q, device)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            found = self._kept[key]
        return next(own for one, own in zip(self._modules, found, strict=True) if one is module)

    def _moved(self, q: Tensor, device: torch.device) -> list[list[Tensor]]:
        vectors = [module.on_host(q) for module in self._modules]
        flat = [of.flatten() for own in vectors for of in own]
        parts = iter(torch.cat(flat).to(device).split([len(of) for of in flat]))
        return [[next(parts).view(of.shape) for of in own] for own in vectors]


def numbers(q: Tensor) -> bytes:
    """What tells qualities on the host apart."""
    return q.numpy().tobytes()


def share_uploads(network: nn.Module) -> None:
    modules = [module for module in network.modules() if isinstance(module, OfQuality)]
    uploads = Uploads(modules)
    for module in modules:
        module.uploads = uploads


class FixedQualityCurve(OfQuality):
    """``QualityCurve``, of products and sums in float64, each of which IEEE defines."""

    def __init__(self, curve: QualityCurve) -> None:
        super().__init__()
        self._values = curve.values.detach().cpu().double()
        self.device_of = curve.values.detach().new_zeros(0)

    def on_host(self, q: Tensor) -> list[Tensor]:
        return [to_grid(interpolated(self._values, q)).float()]

    def forward(self, q: Tensor) -> Tensor:
        (found,) = self.on_device(q)
        return found[:, :, None, None]


class FixedTypicalScale(FixedQualityCurve):
    """``TypicalScale``."""

    def __init__(self, curve: TypicalScale) -> None:
        super().__init__(curve)
        self._affine_of: Callable[..., Affine] = curve.affine_of
        self._exp = (FixedExp(),)  # no submodule: it stays on the host

    def on_host(self, q: Tensor) -> list[Tensor]:
        (typical,) = super().on_host(q)
        return [of[:, 0] for of in self._affine_of(typical, self._exp[0])]

    def forward(self, q: Tensor) -> Affine:  # type: ignore[override]
        factor, shift = self.on_device(q)
        return factor[:, None], shift[:, None]


class FixedModulation(OfQuality):
    """``QualityModulation``: products and sums in float64, one after the other in order."""

    def __init__(self, modulation: QualityModulation) -> None:
        super().__init__()
        self._hidden, self._out = (
            (layer.weight.detach().cpu().double(), layer.bias.detach().cpu().double())
            for layer in (modulation.hidden, modulation.out)
        )
        self._tanh = (FixedTanh(),)  # no submodule: it stays on the host

    def on_host(self, q: Tensor) -> list[Tensor]:
        features = quality_features(q.double())
        hidden = self._tanh[0](to_grid(_in_order(features, *self._hidden)).float())
        scale, shift = to_grid(_in_order(hidden.double(), *self._out)).float().chunk(2, dim=1)
        return [1 + scale, shift]

    def affine(self, q: Tensor) -> Affine:
        factor, shift = self.on_device(q)
        return factor[:, :, None, None], shift[:, :, None, None]

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        factor, shift = self.affine(q)
        return to_grid(x * factor) + shift


def _in_order(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer (B, n) -> (B, out) summed from the first feature to the last."""
    total = bias.expand(len(features), -1)
    for feature, column in zip(features.T, weight.T, strict=True):
        total = total + feature[:, None] * column
    return total
