"""Presets as CompressAI models, so that its training example and its evaluation run on them.

    python -m mambaic.integrations.compressai pretrained DIR -a mambaic-s -q 10,50,90
    python -m mambaic.integrations.compressai checkpoint DIR -a mambaic-s -p state.pth.tar

is ``python -m compressai.utils.eval_model`` with our names registered; the qualities are ours,
0 to 100. In a program, ``register()`` does the same for CompressAI's model zoo.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mambaic import checkpoint
from mambaic.config import PRESETS, ModelConfig
from mambaic.extras import require
from mambaic.models.model import MambaIC
from mambaic.numerics import own_numerics

try:
    from compressai.entropy_models import EntropyBottleneck
    from compressai.models import CompressionModel
except ModuleNotFoundError:
    require("compressai")
    raise


class MambaICCompressionModel(CompressionModel):  # type: ignore[misc]  # it has no types
    """A mambaic model at one quality, with CompressAI's interface. Strings are tiles alone, so what
    belongs to whole files is not in its figures: the container, rotation and post-filter."""

    def __init__(self, model: MambaIC, quality: float = 50.0) -> None:
        super().__init__()
        self.model = model
        # CompressAI's trainers build an optimiser of ``quantiles`` and refuse to build an empty one
        self.unused_bottleneck = EntropyBottleneck(1)
        described = json.dumps({"config": model.config.to_dict(), "quality": quality})
        text = torch.tensor(list(described.encode()), dtype=torch.uint8)
        self.register_buffer("description", text)

    @property
    def quality(self) -> float:
        """Quality in [0, 100]; part of the state_dict."""
        return float(_description(self.get_buffer("description"))["quality"])

    def forward(self, x: Tensor) -> dict[str, Any]:
        """x (B, 3, H, W), sides multiples of 64 -> {"x_hat", "likelihoods": {"y", "z"}}, of each
        latent's values (B, n)."""
        output = self.model(x, self._q(x))
        return {"x_hat": output.x_hat, "likelihoods": output.estimator.likelihoods()}

    def compress(self, x: Tensor) -> dict[str, Any]:
        """x (B, 3, H, W), sides multiples of 64 -> {"strings": [B strings], "shape": latents}."""
        with own_numerics(x.device):
            y = self.model.g_a(x.float(), self._q(x))
            strings = []
            for row in range(len(x)):
                stream = self.model.entropy_model.encode(y[row : row + 1], self.quality)
                strings.append(stream.payload)
        return {"strings": [strings], "shape": tuple(y.shape[-2:])}

    def decompress(self, strings: list[list[bytes]], shape: tuple[int, int]) -> dict[str, Tensor]:
        """Inverse of ``compress``: {"x_hat": (B, 3, H, W) in [0, 1]}. Raises a BitstreamError."""
        decode = partial(self.model.entropy_model.decode, size=shape, quality=self.quality)
        with own_numerics(next(self.parameters()).device):
            y_hat = torch.cat([decode(payload).y_hat for payload in strings[0]])
            return {"x_hat": self.model.g_s(y_hat, self._q(y_hat)).clamp(0, 1)}

    def update(self, *args: Any, force: bool = False, **kwargs: Any) -> bool:
        """Build the coding tables, if there are none yet or ``force``; other arguments are for
        CompressAI's own entropy models."""
        if self.model.entropy_model.tables is not None and not force:
            return False
        self.model.entropy_model.update()
        return bool(super().update(*args, force=force, **kwargs)) or True

    @classmethod
    def from_state_dict(cls, state_dict: dict[str, Tensor]) -> MambaICCompressionModel:
        """Model of a state_dict of this class; call ``update`` before coding."""
        described = _description(state_dict["description"])
        model = MambaIC(ModelConfig.from_dict(described["config"]))
        adapter = cls(model, described["quality"])
        adapter.load_state_dict(state_dict)
        return adapter

    def _q(self, x: Tensor) -> Tensor:
        return torch.full((len(x),), self.quality, dtype=torch.float32, device=x.device)


def _description(buffer: Tensor) -> dict[str, Any]:
    return dict(json.loads(bytes(buffer.cpu().tolist())))


def load(
    preset: str, quality: float = 50, metric: str = "mse", pretrained: bool = False, **kwargs: Any
) -> MambaICCompressionModel:
    """A preset as CompressAI's zoo makes its models; ``pretrained`` loads the shipped weights.

    Raises CheckpointError if none are shipped for the preset.
    """
    model = checkpoint.load_model(preset) if pretrained else MambaIC(PRESETS[preset])
    return MambaICCompressionModel(model, quality)


def register() -> None:
    """Add ``mambaic-PRESET`` to CompressAI's zoo and architectures."""
    from compressai.zoo import image_models
    from compressai.zoo.image import model_architectures

    for name in PRESETS:
        image_models[f"mambaic-{name}"] = partial(load, name)
        model_architectures[f"mambaic-{name}"] = MambaICCompressionModel


if __name__ == "__main__":
    from compressai.utils.eval_model.__main__ import main

    register()
    main(sys.argv[1:])
