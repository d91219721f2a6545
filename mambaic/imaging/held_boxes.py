"""What AVIF, HEIF and JPEG 2000 files held, by their own headers.

ISO/IEC 14496-12 (boxes), 23008-12 (items of HEIF), 15444-1 (JPEG 2000).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

PICTURES = "pictures"
GAIN_MAP, BEHIND = "the gain map", "the data behind the picture's end"
HDR_TRANSFER = {16: "PQ", 18: "HLG"}  # of ITU-T H.273
ALPHA_URNS = (
    b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha",
    b"urn:mpeg:hevc:2015:auxid:1",
    b"urn:mpeg:avc:2015:auxid:1",
)
PICTURE_ITEMS = {b"av01", b"hvc1", b"hev1", b"avc1", b"jpeg", b"grid", b"iden", b"iovl", b"unci"}
PLAIN_HEIF = {b"ftyp", b"meta", b"mdat", b"free", b"skip", b"moov", b"moof", b"mfra"}
PLAIN_JP2 = {b"jP  ", b"ftyp", b"jp2h", b"jp2c", b"free", b"jp2i"}


class Box(NamedTuple):
    kind: bytes
    content: bytes


def boxes_of(data: bytes) -> Iterator[Box]:
    """Boxes that follow each other in ``data``; ends where it makes no sense any more."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        header = 8
        if size == 1 and at + 16 <= len(data):
            size, header = struct.unpack_from(">Q", data, at + 8)[0], 16
        elif size == 0:
            size = len(data) - at
        if size < header:
            return
        yield Box(kind, data[at + header : at + size])
        at += size


def top_boxes(file: BinaryIO, keep: int) -> Iterator[Box]:
    """The boxes of a file; of each at most ``keep`` bytes are read."""
    file.seek(0, 2)
    end, at = file.tell(), 0
    while at + 8 <= end:
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == 1:
            size, header = int.from_bytes(file.read(8), "big"), 16
        elif size == 0:
            size = end - at
        if size < header:
            return
        yield Box(kind, file.read(min(size - header, keep)))
        at += size


def heif(file: BinaryIO) -> tuple[int, list[str]]:
    """(most bits of a channel, parts that are left out) of an AVIF or HEIF file."""
    lost: list[str] = []
    bits = 8
    for box in top_boxes(file, keep=1 << 24):
        if box.kind not in PLAIN_HEIF:
            lost.append(named(box.kind))
        if box.kind != b"meta":
            continue
        inner = {part.kind: part.content for part in boxes_of(box.content[4:])}
        properties = [
            part
            for container in boxes_of(inner.get(b"iprp", b""))
            if container.kind == b"ipco"
            for part in boxes_of(container.content)
        ]
        bits = max([bits, *map(_property_bits, properties)])
        lost += _lost_properties(properties) + _lost_items(inner)
    return bits, list(dict.fromkeys(lost))


def _property_bits(box: Box) -> int:
    content = box.content
    if box.kind == b"pixi" and len(content) > 5:
        return max(content[5 : 5 + content[4]], default=8)
    if box.kind == b"av1C" and len(content) > 2 and content[2] & 0x40:
        return 12 if content[2] & 0x20 else 10
    if box.kind == b"hvcC" and len(content) > 18:
        return 8 + max(content[17] & 7, content[18] & 7)
    return 8


def _lost_properties(properties: list[Box]) -> list[str]:
    lost = []
    for kind, content in properties:
        if kind == b"auxC" and not content[4:].startswith(ALPHA_URNS):
            gain = b"gainmap" in content.lower()
            lost.append(GAIN_MAP if gain else "the auxiliary picture (depth or the like)")
        if kind == b"colr" and content[:4] == b"nclx" and len(content) >= 8:
            transfer = int.from_bytes(content[6:8], "big")
            if transfer in HDR_TRANSFER:
                lost.append(f"the HDR brightness ({HDR_TRANSFER[transfer]})")
    return lost


def _lost_items(meta: dict[bytes, bytes]) -> list[str]:
    """Gain maps, and pictures that are neither the first nor a part, alpha or preview of one."""
    kinds, hidden = _items(meta.get(b"iinf", b""))
    lost = [GAIN_MAP] if b"tmap" in kinds.values() else []
    parts = _parts(meta.get(b"iref", b""))
    seen = {
        item
        for item, kind in kinds.items()
        if kind in PICTURE_ITEMS and item not in hidden and item not in parts
    }
    if len(seen) > 1 and not lost:
        lost.append(f"the rest of {len(seen)} {PICTURES}")
    return lost


def _items(iinf: bytes) -> tuple[dict[int, bytes], set[int]]:
    """(kinds by item, items that are not to be shown) of an item information box."""
    kinds: dict[int, bytes] = {}
    hidden: set[int] = set()
    if len(iinf) < 6:
        return kinds, hidden
    for kind, content in boxes_of(iinf[6 if iinf[0] == 0 else 8 :]):
        if kind != b"infe" or len(content) < 12 or content[0] < 2:
            continue
        wide = 2 if content[0] == 2 else 4
        item = int.from_bytes(content[4 : 4 + wide], "big")
        kinds[item] = content[6 + wide : 10 + wide]
        if content[3] & 1:
            hidden.add(item)
    return kinds, hidden


def _parts(iref: bytes) -> set[int]:
    """Items that only serve others: tiles, previews, alpha."""
    parts: set[int] = set()
    if len(iref) < 4:
        return parts
    wide = 2 if iref[0] == 0 else 4
    for kind, content in boxes_of(iref[4:]):
        numbers = [content[i : i + wide] for i in (0, *range(wide + 2, len(content), wide))]
        whole, *others = (int.from_bytes(number, "big") for number in numbers)
        if kind in (b"thmb", b"auxl"):
            parts.add(whole)
        elif kind == b"dimg":
            parts.update(others)
    return parts


def jpeg2000(file: BinaryIO) -> tuple[int, list[str]]:
    """(most bits of a channel, parts that are left out) of a JPEG 2000 file or codestream."""
    file.seek(0)
    if file.read(2) == b"\xff\x4f":
        file.seek(0)
        return _codestream_bits(file.read(1 << 16)), []
    bits, lost, pictures = 8, [], 0
    for box in top_boxes(file, keep=1 << 16):
        if box.kind == b"jp2c":
            bits = max(bits, _codestream_bits(box.content))
            pictures += 1
        elif box.kind == b"jp2h":
            inner = list(boxes_of(box.content))
            if any(kind == b"colr" and content[:1] == b"\2" for kind, content in inner):
                lost.append("the colour profile")
            for kind, content in inner:
                if kind == b"pclr" and len(content) > 3:
                    bits = max(bits, *(1 + (b & 0x7F) for b in content[3 : 3 + content[2]]))
        elif box.kind not in PLAIN_JP2:
            lost.append(named(box.kind))
    if pictures > 1:
        lost.append(f"the rest of {pictures} {PICTURES}")
    return bits, list(dict.fromkeys(lost))


def _codestream_bits(start: bytes) -> int:
    """Most bits of a component by the SIZ marker segment, which is the first."""
    if len(start) < 42 or start[:4] != b"\xff\x4f\xff\x51":
        return 8
    count = int.from_bytes(start[40:42], "big")
    return max((1 + (b & 0x7F) for b in start[42 : 42 + 3 * count : 3]), default=8)


def named(kind: bytes) -> str:
    return f"the part {kind.decode('latin-1').strip()!r}"
