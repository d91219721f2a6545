"""Members ``.mbic`` of WebDataset shards, and .mbic bytes in a torch ``DataLoader``.

    webdataset.WebDataset("train-{000..099}.tar").decode(MbicDecoder("torch"), "pil")
    DataLoader(dataset, collate_fn=..., num_workers=4)  # whose items MbicDecoder().decode made

Workers on CUDA have to be started by "spawn"; a decoder can be pickled and holds no weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mambaic.container.file_bytes import FileBytes
from mambaic.imaging.suffixes import MBIC_SUFFIX

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    Decoded = Image.Image | np.ndarray[Any, Any] | Tensor


@dataclass(frozen=True)
class MbicDecoder:
    """Decodes with the shipped weights that a file names, or with ``model``, loaded once a process.

    Pictures are Pillow images ("pil"), arrays (H, W) or (H, W, C) of uint8 ("numpy"), or tensors
    (C, H, W) of uint8 on the CPU ("torch"); C is 1 for gray, and alpha is the last channel.
    """

    kind: Literal["pil", "numpy", "torch"] = "pil"
    model: str | None = None
    device: str = "cpu"

    def __call__(self, key: str, data: FileBytes) -> Decoded | None:
        """WebDataset's handler: ``key`` is a member's suffix; None leaves it to other handlers."""
        name = key if key.startswith(".") else f".{key}"
        return self.decode(data) if name.lower().endswith(MBIC_SUFFIX) else None

    def decode(self, data: FileBytes) -> Decoded:
        """Raises a BitstreamError."""
        import numpy as np
        import torch

        from mambaic.codec import load, load_for

        codec = load(self.model, self.device) if self.model else load_for(data, self.device)
        image = codec.decode(data)
        if self.kind == "pil":
            return image
        pixels = np.array(image)
        if self.kind == "numpy":
            return pixels
        return torch.from_numpy(pixels.reshape(image.height, image.width, -1)).permute(2, 0, 1)
