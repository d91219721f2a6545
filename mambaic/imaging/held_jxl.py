"""What JPEG XL files held, by the first bits of their codestream (ISO/IEC 18181-1, annex D)."""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

from PIL import Image

from mambaic.imaging.held_boxes import GAIN_MAP, named, top_boxes

HEADER = 1 << 12  # bytes of a codestream that its header certainly fits in
PLAIN = {b"JXL ", b"ftyp", b"jxll", b"jxlc", b"jxlp", b"jxli", b"jbrd", b"free"}
RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
# choices of a U32: (what is added, bits that follow)
SIDE = ((1, 9), (1, 13), (1, 18), (1, 30))
PREVIEW_SIDE = ((1, 6), (65, 8), (321, 10), (1345, 12))
PREVIEW_EIGHTHS = ((16, 0), (32, 0), (1, 5), (33, 9))


class Header(NamedTuple):
    """``channels`` are those besides the colours: alpha, depth, black."""

    size: tuple[int, int]
    bits: int = 8
    animated: bool = False
    channels: int = 0


class _Bits:
    """Reads least significant bits first; zeros after the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._at = int.from_bytes(data, "little"), 0

    def take(self, count: int) -> int:
        value = self._value >> self._at & ((1 << count) - 1)
        self._at += count
        return value

    def u32(self, *choices: tuple[int, int]) -> int:
        added, count = choices[self.take(2)]
        return added + self.take(count)


def jxl(file: BinaryIO, image: Image.Image) -> tuple[int, list[str]]:
    """(most bits of a channel, parts that are left out)."""
    lost = []
    header = _header(_codestream(file))
    if header.animated:
        lost.append("the animation")
    if extra := header.channels - ("A" in image.getbands()):
        lost.append(f"the rest of {len(image.getbands()) + extra} channels")
    file.seek(0)
    if file.read(2) == b"\xff\x0a":
        return header.bits, lost
    for box in top_boxes(file, keep=4):
        kind = box.content if box.kind == b"brob" else box.kind  # brob: compressed by Brotli
        if kind == b"jhgm":
            lost.append(GAIN_MAP)
        elif kind == b"Exif":
            lost += [] if "exif" in image.info else ["the EXIF"]
        elif kind == b"xml ":
            lost += [] if "xmp" in image.info else ["the XMP"]
        elif kind not in PLAIN:
            lost.append(named(kind))
    return header.bits, list(dict.fromkeys(lost))


def jxl_size(file: BinaryIO) -> tuple[int, int]:
    """(width, height) without decoding."""
    return _header(_codestream(file)).size


def _codestream(file: BinaryIO) -> bytes:
    """Its first bytes."""
    file.seek(0)
    start = file.read(HEADER)
    if start[:2] == b"\xff\x0a":
        return start
    parts = b""
    for box in top_boxes(file, keep=HEADER):
        if box.kind in (b"jxlc", b"jxlp"):
            parts += box.content[4 if box.kind == b"jxlp" else 0 :]
            if box.kind == b"jxlc" or len(parts) >= HEADER:
                break
    return parts


def _header(codestream: bytes) -> Header:
    bits = _Bits(codestream[2:HEADER])
    size = _size(bits)
    if bits.take(1):  # all defaults
        return Header(size)
    animated = False
    if bits.take(1):  # extra fields
        turned = bits.take(3) >= 4
        size = size[::-1] if turned else size
        if bits.take(1):  # intrinsic size
            _size(bits)
        if bits.take(1):
            _skip_preview(bits)
        animated = bool(bits.take(1))
        if animated:
            _skip_animation(bits)
    depth = _depth(bits)
    bits.take(1)  # 16-bit buffers suffice
    channels = bits.u32((0, 0), (1, 0), (2, 4), (1, 12))
    return Header(size, depth, animated, channels)


def _depth(bits: _Bits) -> int:
    if bits.take(1):  # floats
        depth = bits.u32((32, 0), (16, 0), (24, 0), (1, 6))
        bits.take(4)  # of them in the exponent
        return depth
    return bits.u32((8, 0), (10, 0), (12, 0), (1, 6))


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)
    height = 8 * (1 + bits.take(5)) if small else bits.u32(*SIDE)
    ratio = bits.take(3)
    if ratio:
        above, below = RATIOS[ratio]
        return height * above // below, height
    return 8 * (1 + bits.take(5)) if small else bits.u32(*SIDE), height


def _skip_preview(bits: _Bits) -> None:
    eighths = bits.take(1)
    side = PREVIEW_EIGHTHS if eighths else PREVIEW_SIDE
    bits.u32(*side)
    if not bits.take(3):
        bits.u32(*side)


def _skip_animation(bits: _Bits) -> None:
    bits.u32((100, 0), (1000, 0), (1, 10), (1, 30))
    bits.u32((1, 0), (1001, 0), (1, 8), (1, 10))
    bits.u32((0, 0), (0, 3), (0, 16), (0, 32))
    bits.take(1)
