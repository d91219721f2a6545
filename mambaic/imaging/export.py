"""Decoded pictures as files of other formats, with the metadata that these can hold."""

from __future__ import annotations

import io
import struct
from typing import Any

from PIL import Image, PngImagePlugin

from mambaic.errors import OutputError
from mambaic.imaging import exif
from mambaic.imaging.metadata import INFO_KEYS, fits
from mambaic.imaging.output_formats import ALPHA, FORMATS, METADATA

# bytes of EXIF and of XMP in a JPEG: one segment, without its length, and the name of XMP
JPEG_LIMITS = {"exif": 65533, "xmp": 65533 - 29}
OPTIONS: dict[str, dict[str, Any]] = {
    "webp": {"lossless": True},
    "jpg": {"quality": 95, "subsampling": 0},
}


def image_bytes(image: Image.Image, chosen: str) -> tuple[bytes, list[str]]:
    """(File of a format, a key of FORMATS, lossless where it can be; notes on what is left out).

    Raises OutputError on alpha that would be lost, and on metadata that are too long.
    """
    if image.mode in ("RGBA", "LA") and chosen not in ALPHA:
        raise OutputError(f".{chosen} would lose the alpha; use {', '.join(sorted(ALPHA))}")
    info = {key: image.info[key] for key in INFO_KEYS.values() if image.info.get(key)}
    notes = []
    if chosen not in METADATA and info:
        notes.append(f".{chosen} does not keep {', '.join(info)}")
        info = {}
    if "icc_profile" in info and not fits(info["icc_profile"], image.mode):
        del info["icc_profile"]
        notes.append("the colour profile is for other channels than these and is left out")
    if chosen == "tiff" and "exif" in info and not _readable(info["exif"]):
        del info["exif"]
        notes.append("the EXIF is broken, which makes a TIFF unreadable, and is left out")
    for key, limit in JPEG_LIMITS.items():
        if chosen == "jpg" and len(info.get(key, b"")) > limit:
            raise OutputError(
                f"{key.upper()} of {len(info[key])} bytes does not fit into a .jpg, which holds "
                f"{limit}: use png, webp or tiff, or leave all metadata out with --strip"
            )
    return _write(image, chosen, info), notes


def _write(image: Image.Image, chosen: str, info: dict[str, bytes]) -> bytes:
    # without the option writers take the profile of the image
    options: dict[str, Any] = {"icc_profile": None, **OPTIONS.get(chosen, {}), **info}
    block, xmp = b"", b""
    if chosen == "tiff":  # Pillow's writer would change types, and lose letters and thumbnails
        block, xmp = options.pop("exif", b""), options.pop("xmp", b"")
    if chosen == "png" and "xmp" in options:
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", options.pop("xmp").decode("utf-8", "replace"))
        options["pnginfo"] = text
    buffer = io.BytesIO()
    try:
        image.save(buffer, FORMATS[chosen], **options)
    except (OSError, ValueError, struct.error) as exc:
        raise OutputError(f"cannot be written as .{chosen}: {exc}") from exc
    if block or xmp:
        return exif.into_tiff(buffer.getbuffer(), block, xmp)
    return buffer.getvalue()


def _readable(block: bytes) -> bool:
    """Whether Pillow, which reads the EXIF of a TIFF before its pixels, can."""
    parsed = Image.Exif()
    try:
        parsed.load(block)
        dict(parsed)
        for tag in (exif.EXIF, exif.GPS):
            parsed.get_ifd(tag)
    except Exception:  # whatever the values make it raise
        return False
    return True
