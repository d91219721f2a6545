"""Writes the golden files of format version 6: ``python tests/golden/make.py NAME...``

A golden file is never replaced: it must decode for ever. New features get new files.
"""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

sys.path.insert(0, str(Path(__file__).parents[1]))

from conftest import make_model, photo_pixels, with_eye

from mambaic.checkpoint import load_model, save_model
from mambaic.codec import Codec, load
from mambaic.config import PRESETS
from mambaic.container import fields
from mambaic.imaging.image import read_image
from mambaic.reconstruction.grain import Grain
from mambaic.reconstruction.rotation import Rotation

FOLDER = Path(__file__).parent / "v6"
# strengths that differ from knot to knot, which untrained weights do not ask for
GRAIN = Grain(7, 6, ((8, 20, 40, 90), (0, 10, 30, 60)))


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    image = Image.fromarray(photo_pixels(height, width)).convert(mode.replace("A", ""))
    if mode.endswith("A"):
        alpha = np.arange(width * height, dtype=np.uint8).reshape(height, width)
        image.putalpha(Image.fromarray(alpha))
    return image


def with_metadata() -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    buffer = io.BytesIO()
    photo(48, 40).save(buffer, "JPEG", exif=exif, icc_profile=profile, xmp=b"<x:xmpmeta/>")
    return buffer.getvalue()


def noise() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))


def stripes() -> Image.Image:
    """Few colours and sharp edges, which are coded exactly, beside a photograph."""
    pixels = photo_pixels(128, 160)
    row, column = np.indices((128, 96))
    pixels[:, :96] = np.where(
        ((row // 3) * (column // 5) % 7 < 3)[..., None], (250, 240, 10), (0, 20, 90)
    )
    return Image.fromarray(pixels)


# name: picture, quality, further options
CASES = {
    "rgb": (photo(96, 64), 60, {}),
    "gray": (photo(70, 50, "L"), 40, {}),
    "rgba": (photo(64, 64, "RGBA"), 50, {}),
    "la": (photo(33, 65, "LA"), 75, {}),
    "tiled": (photo(200, 150), 55, {"tile": 4}),
    "metadata": (with_metadata(), 50, {}),
    "one-pixel": (photo(1, 1), 50, {}),
    "odd-size": (photo(257, 131), 30, {}),
    "lowest": (photo(80, 80), 0, {}),
    "highest": (photo(80, 80), 100, {}),
    "noise": (noise(), 100, {}),
    "fraction": (photo(64, 64), 33.33, {}),
    "filter": (photo(320, 256), 90, {}),
    "rotation": (photo(90, 70), 70, {"rotation": Rotation(50, -9, 4)}),
    "tune": (photo(100, 120), 50, {"tune": 0.75}),
    "exact": (stripes(), 70, {}),
    "grain": (photo(160, 112), 90, {"grain": True}),
    "colour-lag": (photo(320, 256), 92, {"tune": 1.0}),
}


def write(name: str, codec: Codec, picture: Image.Image | bytes, quality: float, options) -> None:
    target = FOLDER / f"{name}.mbic"
    if target.exists():
        raise SystemExit(f"{target} is golden: it is never replaced")
    data = codec.encode(read_image(picture), quality, **options)
    if options.get("grain"):
        file = fields.read(data)
        data = fields.write(replace(file, chunks={**file.chunks, "grain": GRAIN.to_bytes()}))
    target.write_bytes(data)
    image = codec.decode(data)
    image.save(FOLDER / f"{name}.png", exif=image.getexif())


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CASES:
        if name.startswith("s-"):  # with the shipped weights of the day
            quality = 97 if "finest" in name or "lag" in name else 50
            options = {"tune": 0.0} if "finest" in name else {}
            write(name, load("s"), photo(160, 112), quality, options)
        else:
            folder = FOLDER / "unit"
            if not folder.exists():
                save_model(with_eye(make_model(PRESETS["unit"])), folder)
            write(name, Codec(load_model(folder)), *CASES[name])


if __name__ == "__main__":
    main()
