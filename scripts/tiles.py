"""Tiled against untiled files of large photographs: bits, pictures, and errors at tile borders.

    python scripts/tiles.py photos/*.jpg --quality 50

A photograph of more latents than a file can hold in one tile is cropped to its middle rows.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from PIL import Image

import mambaic
from mambaic.container.fields import LATENT_STRIDE, MAX_TILE_LATENTS, latent_size

BORDER = 16  # pixels on both sides of a tile's border
ZONE = 128  # the same, wider: where the two pictures differ


def _middle(image: Image.Image) -> Image.Image:
    _, columns = latent_size(*image.size)
    rows = MAX_TILE_LATENTS // columns // 4 * 4  # tiles are padded to multiples of 4
    height = min(image.height, rows * LATENT_STRIDE)
    top = (image.height - height) // 2
    return image.crop((0, top, image.width, top + height))


def _db(error: float) -> float:
    return 10 * math.log10(255**2 / error) if error else math.inf


def _near_border(shape: tuple[int, ...], tile: int, reach: int) -> np.ndarray:
    """True for pixels within ``reach`` of a border between two tiles."""
    near = np.zeros(shape[:2], dtype=bool)
    for at in range(tile * LATENT_STRIDE, shape[0], tile * LATENT_STRIDE):
        near[at - reach : at + reach] = True
    for at in range(tile * LATENT_STRIDE, shape[1], tile * LATENT_STRIDE):
        near[:, at - reach : at + reach] = True
    return near


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--quality", type=float, default=50.0)
    parser.add_argument("--tiles", type=int, nargs="+", default=[64, 128, 256])
    arguments = parser.parse_args()
    codec = mambaic.load("s")
    print(
        f"PSNR in dB: between tiled and untiled (share of the squared difference within {ZONE} "
        "pixels of a border of tiles) | to the original, tiled less untiled"
    )
    print(f"excess: of squared error to the original, within {BORDER} pixels of a border of tiles")
    for path in arguments.images:
        image = _middle(Image.open(path).convert("RGB"))
        original = np.asarray(image).astype(np.float32)
        whole = codec.encode(image, arguments.quality, tile=0, tune=0.0)
        untiled = np.asarray(codec.decode(whole)).astype(np.float32)
        reference = ((untiled - original) ** 2).mean(axis=2)
        for tile in arguments.tiles:
            near = _near_border(original.shape, tile, BORDER)
            zone = _near_border(original.shape, tile, ZONE)
            if not near.any():
                continue
            data = codec.encode(image, arguments.quality, tile=tile, tune=0.0)
            tiled = np.asarray(codec.decode(data)).astype(np.float32)
            error = ((tiled - original) ** 2).mean(axis=2)
            difference = ((tiled - untiled) ** 2).mean(axis=2)
            print(
                f"{path.split('/')[-1]} {image.width}x{image.height} tile {tile}: "
                f"bytes {100 * (len(data) / len(whole) - 1):+.2f} %, "
                f"{_db(float(difference.mean())):.1f} "
                f"({100 * float(difference[zone].sum() / difference.sum()):.0f} % of it in the "
                f"{100 * float(zone.mean()):.0f} % near borders) | "
                f"{_db(float(error.mean())) - _db(float(reference.mean())):+.4f}, "
                f"excess {100 * float(error[near].mean() / reference[near].mean() - 1):+.2f} %",
                flush=True,
            )


if __name__ == "__main__":
    main()
