"""Pixels of large pictures to latents, piece by piece.

Every piece is analysed from its pixels plus a halo of neighbouring pixels, so the pieces agree with
the whole wherever the networks' influence has decayed within the halo.
"""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from mambaic.config import TRAINED
from mambaic.container.fields import LATENT_STRIDE
from mambaic.models.model import MambaIC
from mambaic.nn.precision import multiplies_bfloat16
from mambaic.reconstruction.rotation import IDENTITY, Rotation
from mambaic.tiling.boxes import Box, grow, inside, picture_box, pieces
from mambaic.tiling.memory import return_memory


def read_region(pixels: np.ndarray, box: Box) -> Tensor:
    """Pixels of a box (1, 3, h, w) in [0, 1]; beyond the picture its last pixels repeat."""
    rows, columns = LATENT_STRIDE * box[2], LATENT_STRIDE * box[3]
    top = min(LATENT_STRIDE * box[0], pixels.shape[0] - 1)
    left = min(LATENT_STRIDE * box[1], pixels.shape[1] - 1)
    seen = pixels[top : top + rows, left : left + columns]
    beyond = ((0, rows - seen.shape[0]), (0, columns - seen.shape[1]), (0, 0))
    region = np.pad(seen, beyond, mode="edge")
    x = torch.from_numpy(rearrange(region, "h w c -> 1 c h w")).float().div_(255.0)
    return x.contiguous(memory_format=torch.channels_last)


def visible_region(pixels: np.ndarray, box: Box) -> Tensor:
    """Pixels of a box as ``read_region`` gives them, without those beyond the picture."""
    rows = pixels.shape[0] - box[0] * LATENT_STRIDE
    columns = pixels.shape[1] - box[1] * LATENT_STRIDE
    return read_region(pixels, box)[..., :rows, :columns]


@torch.no_grad()
def analyse(
    model: MambaIC,
    pixels: np.ndarray,
    box: Box,
    quality: float,
    rotation: Rotation = IDENTITY,
) -> Tensor:
    """Latents (1, M, rows, columns) of one box of the picture (H, W, 3) uint8."""
    picture = picture_box(pixels)
    latents = next(model.parameters()).new_empty(1, model.config.M, box[2], box[3])
    q = latents.new_tensor([quality])
    # beyond TRAINED latents stand for the picture exactly
    in_bfloat16 = quality <= TRAINED and multiplies_bfloat16(latents.device)
    transform = model.transform if in_bfloat16 else model.coding_transform
    parts = pieces(box, model.config.halo)
    for piece in parts:
        outer = grow(piece, model.config.halo, picture)
        x = rotation.rotate(read_region(pixels, outer).to(latents.device))
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=in_bfloat16):
            y = transform.g_a(x, q, beyond=quality > TRAINED)
        latents[(..., *inside(piece, box))] = y[(..., *inside(piece, outer))]
        if len(parts) > 1:
            return_memory()
    return latents
