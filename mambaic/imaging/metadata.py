"""ICC profile, EXIF and XMP of a picture: what a file keeps of them, and which way is up.

The orientation is EXIF's alone, as viewers have it. What cannot be kept is dropped with a note.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from mambaic.errors import ImageError
from mambaic.imaging import exif, xmp

INFO_KEYS = {"icc": "icc_profile", "exif": "exif", "xmp": "xmp"}  # chunk of a file: Pillow's name
HIDDEN_PREFIX = b"none\0\0"
XMP_SIGNATURE = b"http://ns.adobe.com/xap/1.0/\0"
# IPTC captions, Photoshop's resources and layers
FOREIGN_BLOCKS = {33723: "IPTC", 34377: "Photoshop", 37724: "Photoshop"}
IPTC_RESOURCE = 0x0404
ICC_SPACE, ICC_SIGNATURE = slice(16, 20), slice(36, 40)
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Chunks of an upright picture, the orientation (1 to 8) that its pixels still have, and what
    was dropped."""

    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    orientation: int = 1
    notes: tuple[str, ...] = ()

    def upright(self, image: Image.Image) -> Image.Image:
        """The image turned as the orientation says."""
        method = TRANSPOSITIONS.get(self.orientation)
        return image if method is None else image.transpose(method)


def open_image(file: str | Path | BinaryIO) -> Image.Image:
    """``Image.open``, also of a picture whose EXIF Pillow fails on when it opens a JPEG or an AVIF:
    then the marker of the EXIF is hidden from it."""
    try:
        return Image.open(file)
    except FileNotFoundError:
        raise
    except Exception as exc:  # Pillow raises what the values of the EXIF make it raise
        if isinstance(file, str | Path):
            data = Path(file).read_bytes()
        else:
            file.seek(0)
            data = file.read()
        if (hidden := _without_markers(data)) is None:
            raise
        try:
            image = Image.open(io.BytesIO(hidden))
        except Exception:  # it was not the EXIF
            raise exc from None
    for _, segment in getattr(image, "applist", ()):
        if segment.startswith(HIDDEN_PREFIX):
            image.info["exif"] = exif.PREFIX + segment.removeprefix(HIDDEN_PREFIX)
    image.info.setdefault("exif", HIDDEN_PREFIX)  # of an AVIF it is not given: noted as unreadable
    return image


def _without_markers(data: bytes) -> bytes | None:
    """A JPEG or AVIF file in which no EXIF is to be found; None if there was none."""
    if data[:2] == b"\xff\xd8":
        hidden = data.replace(exif.PREFIX, HIDDEN_PREFIX)
    elif data[4:8] == b"ftyp":
        # the type of an item of metadata, behind its number and its protection
        hidden = re.sub(rb"(infe\x02...(?:..|....)\0\0)Exif", rb"\1none", data, flags=re.DOTALL)
    else:
        return None
    return None if hidden == data else hidden


def read_metadata(image: Image.Image, given: Mapping[str, Any] | None = None) -> Metadata:
    """Metadata of an opened image; ``given`` (Pillow's names) replace those of the image.

    To be called before a TIFF is loaded, as Pillow closes the file, and applies the orientation.
    Raises ImageError if a given EXIF cannot be written.
    """
    if image.format == "PNG":
        image.load()  # EXIF and XMP may lie behind the pixels
    notes: list[str] = []
    info = {**_of_file(image, notes, skip=given or {}), **(given or {})}
    block, orientation = _exif(info.get("exif"), notes)
    packet, announced = xmp.without_stale(_bytes(info.get("xmp"), "XMP", notes))
    notes += [f"the {data} is not kept" for data in announced]
    return Metadata(
        icc=_bytes(info.get("icc_profile"), "colour profile", notes),
        exif=block,
        xmp=packet,
        orientation=orientation,
        notes=tuple(dict.fromkeys(notes)),
    )


def shield(image: Image.Image) -> None:
    """Leave Pillow's loader of TIFFs, which reads EXIF and applies orientations, tag 274 alone:
    it fails on broken directories, and turns pictures by their XMP."""
    if isinstance(image, TiffImageFile):
        image.info.pop("xmp", None)
        parsed = image.getexif()
        for tag in list(parsed):
            if tag != exif.ORIENTATION:
                del parsed[tag]


def fits(icc: bytes, mode: str) -> bool:
    """Whether a profile describes pixels of a mode."""
    space = b"GRAY" if mode in ("1", "L", "LA") else b"RGB "
    return icc[ICC_SPACE] == space and icc[ICC_SIGNATURE] == b"acsp"


def _of_file(image: Image.Image, notes: list[str], skip: Container[str]) -> dict[Any, Any]:
    """``info`` with the metadata that Pillow keeps elsewhere; what is in ``skip`` is not needed."""
    info: dict[Any, Any] = dict(image.info)
    if isinstance(image, TiffImageFile):
        foreign = {name for tag, name in FOREIGN_BLOCKS.items() if tag in image.tag_v2}
        if "exif" not in skip:
            info["exif"] = _of_tiff(image, notes)
    else:
        foreign = {"IPTC"} if IPTC_RESOURCE in info.get("photoshop", ()) else set()
    notes += [f"the {name} block is not kept" for name in sorted(foreign)]
    for name in ("exif", "APP1"):  # as ImageMagick writes them into PNG
        _unpack_raw_profile(info.get(f"Raw profile type {name}"), info)
    return info


def _of_tiff(image: TiffImageFile, notes: list[str]) -> bytes:
    file = image.fp
    if file is None:
        if any(tag in image.tag_v2 for tag in (*exif.DESCRIPTIVE, exif.EXIF, exif.GPS)):
            notes.append("the EXIF of a TIFF that has been loaded is not kept")
        return b""
    position = file.tell()
    try:
        return exif.from_tiff(file, image.tag_v2.offset)
    finally:
        file.seek(position)


def _unpack_raw_profile(text: object, info: dict[Any, Any]) -> None:
    if not isinstance(text, str):
        return
    # two lines of name and length, then hexadecimal digits
    with contextlib.suppress(ValueError):
        data = bytes.fromhex("".join(text.split("\n")[3:]))
        if data.startswith(XMP_SIGNATURE):
            info.setdefault("xmp", data.removeprefix(XMP_SIGNATURE))
        else:
            info.setdefault("exif", data)


def _exif(value: object, notes: list[str]) -> tuple[bytes, int]:
    """(block, orientation) of bytes or of an Image.Exif, which has none but those Pillow writes."""
    if isinstance(value, Image.Exif):
        try:
            value = value.tobytes() if len(value) else b""
        except Exception as exc:  # the writer raises what its values raise
            raise ImageError(f"this EXIF cannot be written: {exc or type(exc).__name__}") from exc
    data = _bytes(value, "EXIF", notes)
    if not re.sub(b"^(?:Exif\0\0)+", b"", data):
        return b"", 1
    try:
        return exif.upright(data)
    except ValueError:
        notes.append("the EXIF is unreadable and was dropped")
        return b"", 1


def _bytes(value: object, name: str, notes: list[str]) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="replace")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if value:
        notes.append(f"the {name} is unreadable and was dropped")
    return b""
