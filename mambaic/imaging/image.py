"""Pictures in and out: any file Pillow reads becomes 8-bit RGB or gray pixels plus what to keep.

What becomes of unusual inputs is promised in docs/reliability.md.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from mambaic.container.fields import MAX_PIXELS
from mambaic.errors import ImageError
from mambaic.imaging.depth import eight_bits, is_deep
from mambaic.imaging.held import MODE_BITS, Held, held_by_mode, held_in
from mambaic.imaging.held_tiff import mend_planes
from mambaic.imaging.metadata import INFO_KEYS, Metadata, fits, read_metadata, shield
from mambaic.imaging.opening import File, check_size, load_pixels, opened, typed_errors
from mambaic.imaging.transparency import apply_deep_key, fill_hidden, split_alpha

STRIP = 256  # rows
MODES = {
    "1", "L", "P", "RGB", "RGBA", "RGBX", "RGBa", "LA", "La", "PA", "CMYK", "YCbCr", "LAB", "HSV",
    *MODE_BITS,
}  # fmt: skip
BYTES = (bytes, bytearray, memoryview)
Source = File | Image.Image | np.ndarray
EXPECTED = (
    "expected a Pillow image, an array (H, W), (H, W, 3) or (H, W, 4) of uint8, or a path, a "
    "binary file or the bytes of an image"
)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """``pixels`` (H, W, 3) uint8, also for gray; ``alpha`` (H, W) uint8 or None; metadata as bytes;
    ``notes``: what was changed on the way in, for the person to know."""

    pixels: np.ndarray
    gray: bool = False
    alpha: np.ndarray | None = None
    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    notes: tuple[str, ...] = field(default=())

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)"""
        return self.pixels.shape[1], self.pixels.shape[0]


def read_image(
    source: Source, *, max_pixels: int = MAX_PIXELS, info: Mapping[str, Any] | None = None
) -> Picture:
    """Read a picture, by content and not by name; ``info`` replaces metadata of an image under
    Pillow's names (exif, icc_profile, xmp). Raises ImageError.

    Of a file or its bytes the first frame, of a Pillow image the one it stands at. Arrays are
    uint8: (H, W) gray, (H, W, 3) or (H, W, 4) with alpha.
    """
    if isinstance(source, np.ndarray):
        source = _as_image(source)
    if isinstance(source, Image.Image):
        check_size(source.size, "image", max_pixels)
        with typed_errors("image"):
            metadata = read_metadata(source, info)
            load_pixels(source)
            return _picture(source, metadata, held_by_mode(source), "image")
    named = isinstance(source, str | os.PathLike)
    if not named and not isinstance(source, BYTES) and not hasattr(source, "read"):
        raise ImageError(f"image: {EXPECTED}, not {type(source).__name__}")
    name = str(source) if named else "image"
    with opened(source, name, max_pixels) as (image, file):
        if image.format == "TIFF":
            mend_planes(image)
        held = held_in(image, file)
        metadata = read_metadata(image, info)
        shield(image)
        load_pixels(image)
        apply_deep_key(image, file, held)
        return _picture(image, metadata, held, name)


def _as_image(array: np.ndarray) -> Image.Image:
    """Raises ImageError on arrays that are no picture of 8 bits."""
    shape = array.shape
    colours = len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))
    if array.dtype != np.uint8 or not colours or 0 in shape:
        raise ImageError(f"image: {EXPECTED}, not an array {shape} of {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(array))


def _picture(image: Image.Image, metadata: Metadata, held: Held, name: str) -> Picture:
    """Of an image whose pixels are loaded."""
    if image.mode not in MODES:
        raise ImageError(f"{name}: Pillow's mode {image.mode} is not supported: convert it to RGB")
    notes = [*held.notes, *metadata.notes]
    image, alpha = split_alpha(metadata.upright(image), held)
    if is_deep(image, held):
        image, note = eight_bits(image, held)
        notes.append(note)
    elif held.bits > 8:  # Pillow itself has reduced them, by value
        notes.append("reduced to 8 bits a channel")
    image, icc = _to_srgb_family(image, metadata.icc, notes)
    if icc and not fits(icc, image.mode):
        notes.append("the colour profile is for other channels than these and was dropped")
        icc = b""
    pixels = _rgb_pixels(image)
    if alpha is not None and fill_hidden(pixels, alpha) and held.hidden_colours:
        notes.append("colours that alpha hides were replaced")
    return Picture(
        pixels=pixels,
        gray=image.mode == "L",
        alpha=alpha,
        icc=icc,
        exif=metadata.exif,
        xmp=metadata.xmp,
        notes=tuple(dict.fromkeys(notes)),
    )


def _rgb_pixels(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8, by strips: Pillow's conversion of a whole image takes three copies of it."""
    width, height = image.size
    out = np.empty((height, width, 3), dtype=np.uint8)
    for top in range(0, height, STRIP):
        bottom = min(top + STRIP, height)
        out[top:bottom] = np.asarray(image.crop((0, top, width, bottom)).convert("RGB"))
    return out


def _to_srgb_family(image: Image.Image, icc: bytes, notes: list[str]) -> tuple[Image.Image, bytes]:
    """CMYK, Lab and YCbCr to RGB; an unreadable profile is dropped, a readable one kept."""
    profile = None
    if icc:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        except (OSError, ImageCms.PyCMSError):
            notes.append("the colour profile is unreadable and was dropped")
            icc = b""
    if image.mode not in ("CMYK", "LAB", "YCbCr", "HSV"):
        return image, icc
    notes.append(f"converted from {image.mode} to RGB")
    if profile is not None and image.mode in ("CMYK", "LAB"):
        try:
            converted = ImageCms.profileToProfile(
                image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (OSError, ImageCms.PyCMSError):
            converted = None
        if converted is not None:
            return converted, b""
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted, b""
    return image.convert("RGB"), b""


def to_pil(picture: Picture) -> Image.Image:
    """Pillow image of a decoded picture: L, RGB, LA or RGBA, metadata in ``info``."""
    if picture.gray:
        # the mean of the three decoded planes has a third of their independent error
        mean = picture.pixels.astype(np.uint16).sum(axis=2, dtype=np.uint16)
        image = Image.fromarray(((mean + 1) // 3).astype(np.uint8))
    else:
        image = Image.fromarray(picture.pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    for chunk, key in INFO_KEYS.items():
        if value := getattr(picture, chunk):
            image.info[key] = value
    return image
