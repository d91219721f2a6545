"""What TIFFs held, by their tags; and planes of 16 bits, which Pillow reads as if of 8."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from PIL import Image

DESCRIPTION, BITS, PHOTOMETRIC, SAMPLES, COLOUR_MAP, SUB_IMAGES = 270, 258, 262, 277, 320, 330
PLANAR, SAMPLE_FORMAT, GDAL_NODATA, RAW_VERSION = 284, 339, 42113, 50706
KINDS = {1: "unsigned", 2: "signed", 3: "float"}


class Samples(NamedTuple):
    """How a TIFF holds its numbers; ``missing`` is the one that stands for none."""

    bits: int
    kind: str
    white_is_zero: bool
    missing: float


def samples(image: Image.Image) -> Samples:
    """Of the frame that the image stands at."""
    tags = _tags(image)
    bits = max(_numbers(tags.get(BITS), 1))
    if any(value & 255 not in (0, value >> 8) for value in _numbers(tags.get(COLOUR_MAP), 0)):
        bits = max(bits, 16)
    return Samples(
        bits=bits,
        kind=KINDS.get(max(_numbers(tags.get(SAMPLE_FORMAT), 1)), "unsigned"),
        white_is_zero=tags.get(PHOTOMETRIC) == 0,
        missing=_number(tags.get(GDAL_NODATA)),
    )


def tiff(image: Image.Image) -> list[str]:
    """Parts that are left out."""
    tags = _tags(image)
    lost = []
    extra = max(_numbers(tags.get(SAMPLES), 1)) - len(image.getbands())
    if extra > 0:
        lost.append(f"the rest of {extra + len(image.getbands())} channels")
    if RAW_VERSION in tags:
        lost.append("the raw data of the camera")
    elif SUB_IMAGES in tags:
        lost.append("the data of sub-images")
    return lost


def imagej_frames(image: Image.Image) -> int:
    """Pictures of an ImageJ stack, which may stand behind each other without directories."""
    text = _tags(image).get(DESCRIPTION)
    if not isinstance(text, str) or not text.startswith("ImageJ="):
        return 1
    counts = (line[7:] for line in text.splitlines() if line.startswith("images="))
    return max((int(count) for count in counts if count.isdigit()), default=1)


def mend_planes(image: Image.Image) -> None:
    """Tell Pillow that the planes of an uncompressed TIFF have 16 bits: it takes them for 8."""
    tags = _tags(image)
    deep = max(_numbers(tags.get(BITS), 1)) > 8
    tiles = getattr(image, "tile", [])
    if not deep or tags.get(PLANAR) != 2 or any(tile.codec_name != "raw" for tile in tiles):
        return
    order = "L" if tags.prefix == b"II" else "B"
    mended = []
    for tile in tiles:
        plane, *others = tile.args
        if len(plane) == 1:
            plane = f"{plane};16{order}"
        mended.append(tile._replace(args=(plane, *others)))
    image.tile = mended  # type: ignore[attr-defined]


def _tags(image: Image.Image) -> Any:
    return getattr(image, "tag_v2", {})


def _numbers(value: object, default: int) -> tuple[int, ...]:
    """Integers of a tag, whatever a file put there."""
    several = value if isinstance(value, tuple) else (value,)
    return tuple(v for v in several if isinstance(v, int)) or (default,)


def _number(text: object) -> float:
    """NaN if there is none."""
    try:
        return float(str(text).strip(" \0"))
    except ValueError:
        return math.nan
