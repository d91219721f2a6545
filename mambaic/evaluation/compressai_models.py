"""CompressAI's models as contenders, for their time beside ours in the same process.

Their trained weights are downloaded by CompressAI when they are first used. Where that fails the
same architecture runs with random weights: how long it takes is then all that it can tell.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.error import URLError

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from mambaic.errors import ConfigError
from mambaic.extras import require
from mambaic.imaging.image import Picture

PREFIX = "compressai:"
PADDING = 64  # sides of what the models code are multiples of it
QUALITIES = (1, 4, 6)  # of CompressAI: two model sizes between them
RANDOM = "times only, random weights"
SEED = 0


@dataclass(frozen=True)
class CompressAIContender:
    """One architecture of CompressAI's zoo, a model for each quality."""

    name: str
    models: dict[float, Any]
    library: str
    times_only: bool
    setting: str = ""
    ours: bool = False

    @property
    def qualities(self) -> Sequence[float]:
        return list(self.models)

    def encode(self, picture: Picture, quality: float) -> tuple[bytes, float | None]:
        x = torch.from_numpy(picture.pixels.copy()).permute(2, 0, 1)[None].float() / 255
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % PADDING, 0, -height % PADDING), mode="replicate")
        with torch.inference_mode():
            found = self.models[quality].compress(x)
        head = struct.pack("<BIIII", int(quality), width, height, *found["shape"])
        strings = [entry[0] for entry in found["strings"]]
        return head + b"".join(struct.pack("<I", len(s)) + s for s in strings), None

    def encode_to_size(self, picture: Picture, n_bytes: int) -> bytes:
        files = [self.encode(picture, quality)[0] for quality in self.qualities]
        fitting = [data for data in files if len(data) <= n_bytes]
        return max(fitting, key=len) if fitting else min(files, key=len)

    def decode(self, data: bytes) -> Image.Image:
        quality, width, height, *shape = struct.unpack_from("<BIIII", data)
        strings, at = [], struct.calcsize("<BIIII")
        while at < len(data):
            (length,) = struct.unpack_from("<I", data, at)
            strings.append([data[at + 4 : at + 4 + length]])
            at += 4 + length
        with torch.inference_mode():
            x_hat = self.models[float(quality)].decompress(strings, tuple(shape))["x_hat"]
        pixels = (x_hat[0, :, :height, :width].clamp(0, 1) * 255).round().permute(1, 2, 0)
        return Image.fromarray(pixels.numpy().astype(np.uint8))


def compressai_contender(architecture: str) -> CompressAIContender:
    """Models of ``architecture`` on the CPU.

    Raises ConfigError for an unknown one, MissingPackage.
    """
    require("compressai")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import compressai
        from compressai.zoo import image_models
    known = [name for name in image_models if not name.endswith("vbr")]
    if architecture not in known:
        raise ConfigError(f"{PREFIX}{architecture}: CompressAI has {', '.join(known)}")
    build = image_models[architecture]
    trained = True
    try:
        models = {float(q): build(q, pretrained=True).eval() for q in QUALITIES}
    except (URLError, OSError):
        trained = False
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            models = {float(q): build(q, pretrained=False).eval() for q in QUALITIES}
    for model in models.values():
        model.update()
    library = f"compressai {compressai.__version__}, qualities {QUALITIES} of its zoo"
    name = architecture if trained else f"{architecture} ({RANDOM})"
    return CompressAIContender(name, models, library, times_only=not trained)
