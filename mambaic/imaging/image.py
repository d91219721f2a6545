"""Pictures in and out: any file Pillow reads becomes 8-bit RGB or gray pixels plus what to keep.

What becomes of unusual inputs is promised in docs/reliability.md.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from mambaic.container.fields import MAX_PIXELS, MAX_SIDE
from mambaic.errors import ImageError
from mambaic.imaging.metadata import INFO_KEYS, fits, open_image, read_metadata, shield

STRIP = 256  # rows
PREMULTIPLIED = {"RGBa": "RGBA", "La": "LA"}
DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")


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


_open_lock = threading.Lock()


@contextmanager
def _opened(file: str | Path | BinaryIO) -> Iterator[Image.Image]:
    """Pillow's image, its own pixel limit off: ``_check_size`` applies ours before any pixel is
    read. Pillow's is a global variable, hence the lock around the short time it is changed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with _open_lock:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = open_image(file)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
        with image:
            yield image


def read_image(
    source: str | Path | bytes | BinaryIO | Image.Image,
    *,
    max_pixels: int = MAX_PIXELS,
    info: Mapping[str, Any] | None = None,
) -> Picture:
    """Read a picture, by content and not by name; ``info`` replaces metadata of an image under
    Pillow's names (exif, icc_profile, xmp). Raises ImageError."""
    name = str(source) if isinstance(source, str | Path) else "image"
    try:
        if isinstance(source, Image.Image):
            return _picture(source, name, max_pixels, info, private=False)
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with _opened(file) as image:
            return _picture(image, name, max_pixels, info, private=True)
    except ImageError:
        raise
    except FileNotFoundError as exc:
        raise ImageError(f"{name}: no such file") from exc
    except IsADirectoryError as exc:
        raise ImageError(f"{name}: is a folder, not an image") from exc
    except UnidentifiedImageError as exc:
        raise ImageError(f"{name}: not an image that Pillow can read") from exc
    except Image.DecompressionBombError as exc:
        raise ImageError(f"{name}: {exc}; raise --max-pixels if you trust it") from exc
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        AssertionError,
        struct.error,
    ) as exc:
        # Pillow's plugins raise all of these on damaged files
        raise ImageError(f"{name}: unreadable image: {exc or type(exc).__name__}") from exc


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width}x{height} pixels are more than the limit of {max_pixels}: "
            "raise --max-pixels if you trust it"
        )
    if max(width, height) > MAX_SIDE or min(width, height) < 1:
        raise ImageError(f"{name}: sides must be 1 to {MAX_SIDE} pixels, not {width}x{height}")


def _picture(
    image: Image.Image,
    name: str,
    max_pixels: int,
    info: Mapping[str, Any] | None,
    *,
    private: bool,
) -> Picture:
    """``private``: the image is no caller's, and may be changed."""
    _check_size(image, name, max_pixels)
    notes: list[str] = []
    if getattr(image, "n_frames", 1) > 1:
        notes.append(f"only the first of {image.n_frames} frames is kept")  # type: ignore[attr-defined]
        image.seek(0)
    deep_file = "16" in str([entry.args for entry in getattr(image, "tile", [])])
    metadata = read_metadata(image, info)
    notes += metadata.notes
    if private:
        shield(image)
    image.load()
    image = metadata.upright(image)
    if image.mode in PREMULTIPLIED:
        image = image.convert(PREMULTIPLIED[image.mode])
    image, deep = _eight_bits(image)
    if deep or deep_file:  # Pillow itself reduces RGB of 16 bits, by value
        notes.append("reduced to 8 bits a channel")
    image, icc = _to_srgb_family(image, metadata.icc, notes)
    alpha = None
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        alpha = np.asarray(rgba.getchannel("A"))
        image = image.convert("LA").getchannel("L") if image.mode == "LA" else rgba.convert("RGB")
        if alpha.min() == 255:
            alpha = None
    gray = image.mode in ("L", "1")
    if icc and not fits(icc, image.mode):
        notes.append("the colour profile is for other channels than these and was dropped")
        icc = b""
    return Picture(
        pixels=_rgb_pixels(image),
        gray=gray,
        alpha=alpha,
        icc=icc,
        exif=metadata.exif,
        xmp=metadata.xmp,
        notes=tuple(notes),
    )


def _rgb_pixels(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8, by strips: Pillow's conversion of a whole image takes three copies of it."""
    width, height = image.size
    out = np.empty((height, width, 3), dtype=np.uint8)
    for top in range(0, height, STRIP):
        bottom = min(top + STRIP, height)
        out[top:bottom] = np.asarray(image.crop((0, top, width, bottom)).convert("RGB"))
    return out


def _eight_bits(image: Image.Image) -> tuple[Image.Image, bool]:
    """16-bit and float images scaled by value to 8 bits (Pillow's own conversion clips)."""
    if image.mode not in DEEP_MODES:
        return image, False
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        top = 1.0 if np.nanmax(values, initial=0.0) <= 1.0 else 255.0
    else:
        top = 65535.0 if values.max(initial=0) > 255 or image.mode != "I" else 255.0
    scaled = np.nan_to_num(values / top * 255.0).clip(0, 255)
    small = Image.fromarray(np.rint(scaled).astype(np.uint8), "L")
    small.info = {k: v for k, v in image.info.items() if k != "transparency"}
    return small, True


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
        image = Image.fromarray(((mean + 1) // 3).astype(np.uint8), "L")
    else:
        image = Image.fromarray(picture.pixels, "RGB")
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha, "L"))
    for chunk, key in INFO_KEYS.items():
        if value := getattr(picture, chunk):
            image.info[key] = value
    return image
