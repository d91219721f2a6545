"""What PNG and WebP files held besides their picture: chunks that are left out."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image

from mambaic.imaging.held_boxes import BEHIND, named

GRAY_ALPHA = 4  # a PNG's colour type
USUAL_GAMMA = 0.45455
# kept, or of no matter once pixels are decoded
PLAIN = {
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT",
    b"bKGD", b"hIST", b"pHYs", b"tIME", b"eXIf", b"iDOT", b"vpAg", b"orNT", b"oFFs", b"acTL",
    b"fcTL", b"fdAT", b"CgBI",
}  # fmt: skip
TEXT = {b"tEXt", b"zTXt", b"iTXt"}
# texts that programs write by themselves, and XMP and EXIF, which are kept
PLAIN_TEXT = (
    b"Software", b"Creation Time", b"date:", b"XML:com.adobe.xmp", b"Raw profile type",
)  # fmt: skip
PLAIN_RIFF = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP "}


def png(file: BinaryIO, image: Image.Image) -> tuple[int, bool, list[str]]:
    """(bits of a channel, is it gray with alpha, parts that are left out)."""
    depth, colour_type = 8, -1
    lost = []
    for kind, start in _chunks(file):
        if kind == b"IHDR":
            depth, colour_type = start[8], start[9]
        elif kind in TEXT:
            if not start.startswith(PLAIN_TEXT):
                lost.append(f"the text {start.split(bytes(1))[0].decode('latin-1')!r}")
        elif kind == b"":
            lost.append(BEHIND)
        elif kind not in PLAIN:
            lost.append(named(kind))
    gamma = image.info.get("gamma")
    described = "icc_profile" in image.info or "srgb" in image.info
    if isinstance(gamma, float) and abs(gamma - USUAL_GAMMA) > 0.01 and not described:
        lost.append(f"the gamma of {gamma:.5g}")
    return depth, colour_type == GRAY_ALPHA, list(dict.fromkeys(lost))


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """(kind, its first 80 bytes) of every chunk, and of what follows the last as kind b""."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        begin = file.tell()
        yield kind, file.read(min(length, 80))
        file.seek(begin + length + 4)
        if kind == b"IEND":
            if rest := file.read(80).strip(b"\0\xff \t\r\n"):
                yield b"", rest
            return


def webp(file: BinaryIO) -> list[str]:
    """Parts that are left out."""
    file.seek(0)
    head = file.read(12)
    end = 8 + int.from_bytes(head[4:8], "little")
    lost = []
    while file.tell() + 8 <= end and len(chunk := file.read(8)) == 8:
        kind, size = struct.unpack("<4sI", chunk)
        if kind not in PLAIN_RIFF:
            lost.append(named(kind))
        file.seek(file.tell() + size + size % 2)
    file.seek(end)
    if file.read(80).strip(b"\0\xff \t\r\n"):
        lost.append(BEHIND)
    return list(dict.fromkeys(lost))
