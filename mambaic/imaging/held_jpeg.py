"""What JPEG files held besides their picture: segments that are left out, data behind its end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from mambaic.imaging.held_boxes import BEHIND, GAIN_MAP

MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # that ends entropy-coded data
EOI, COM = 0xD9, 0xFE
VIDEO = "the video"
PADDING = b"\0\xff \t\r\n"
GAIN_MAP_MARKS = (b"http://ns.adobe.com/hdr-gain-map/1.0/", b"HDRGainMap", b"hdrgm:")
ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1"
XMP = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
VIDEO_MARK = re.compile(rb"GCamera:(?:MotionPhoto|MicroVideo)")
# segments of APP0, APP1 ... that are kept, or that tell of the JPEG file alone
PLAIN = (
    (0, b"JFIF\0"), (0, b"JFXX\0"), (0, b"AVI1"), (1, b"Exif\0"), (1, XMP), (2, b"ICC_PROFILE\0"),
    (2, b"MPF\0"), (12, b""), (13, b"Photoshop 3.0\0"), (14, b"Adobe"),
)  # fmt: skip


class Segment(NamedTuple):
    """``end``: where the next one begins."""

    marker: int
    content: bytes
    end: int


def jpeg(file: BinaryIO, *, several: bool) -> list[str]:
    """Parts that are left out, in the words of a note; ``several`` pictures are told elsewhere."""
    file.seek(0)
    data = file.read()
    lost: list[str] = []
    end = None
    for marker, content, after in _segments(data):
        lost += _lost_of(marker, content)
        if marker == EOI:
            end = after
            break
    behind = b"" if end is None else data[end:].strip(PADDING)
    if behind and not several and not {GAIN_MAP, VIDEO} & set(lost):
        lost.append(BEHIND)
    return list(dict.fromkeys(lost))


def _segments(data: bytes) -> Iterator[Segment]:
    """Segments in order, until the end of the image or of what makes sense."""
    at = 2
    while (found := MARKER.search(data, at)) is not None:
        marker, at = data[found.end() - 1], found.end()
        if marker == EOI:
            yield Segment(marker, b"", at)
            return
        if marker in (0x01, 0xD8):  # without a length
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2:
            return
        yield Segment(marker, data[at + 2 : at + length], at + length)
        at += length


def _lost_of(marker: int, content: bytes) -> list[str]:
    if marker == COM:
        return ["the comment"]
    if not 0xE0 <= marker <= 0xEF:
        return []
    number = marker - 0xE0
    if content.startswith(ISO_GAIN_MAP):
        return [GAIN_MAP]
    if number == 1 and content.startswith((XMP, EXTENDED_XMP)):
        gain = any(mark in content for mark in GAIN_MAP_MARKS)
        extended = content.startswith(EXTENDED_XMP)
        video = VIDEO_MARK.search(content) is not None
        return ["the extended XMP"] * extended + [GAIN_MAP] * gain + [VIDEO] * video
    if any(number == plain and content.startswith(start) for plain, start in PLAIN):
        return []
    return [f"the data of APP{number}"] if content.strip(PADDING) else []
