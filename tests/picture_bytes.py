"""Files that Pillow does not write: deep numbers, colour keys, tags of TIFFs, parts of JPEGs."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
from PIL import Image


def saved(image: Image.Image, fmt: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(
    array: np.ndarray, *, bits: int | None = None, between: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    """Of numbers (H, W) or (H, W, 1 to 4); gray may have fewer ``bits`` than uint8 has; chunks
    ``between`` header and pixels."""
    height, width, *channels = array.shape
    bits = 8 * array.itemsize if bits is None else bits
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels[0] if channels else 1]
    if bits < 8:
        places = np.unpackbits(array[..., None], axis=2)[..., 8 - bits :]
        data = np.packbits(places.reshape(height, -1), axis=1)
    else:
        data = array.astype(array.dtype.newbyteorder(">"))
    rows = b"".join(b"\0" + row.tobytes() for row in data)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = ((b"IHDR", header), *between, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def tiff(
    array: np.ndarray,
    *,
    planar: bool = False,
    tile: int = 0,
    big: bool = False,
    photometric: int | None = None,
    extra: tuple[tuple[int, int | bytes], ...] = (),
) -> bytes:
    """Uncompressed little-endian TIFF of (H, W) or (H, W, C); ``extra`` tags: LONG or ASCII."""
    height, width, *channels = array.shape
    count = channels[0] if channels else 1
    numbers = array.reshape(height, width, count)
    planes = [numbers[..., i : i + 1] for i in range(count)] if planar else [numbers]
    blocks = []
    for plane in planes:
        for top in range(0, height, tile or height):
            for left in range(0, width, tile or width):
                block = plane[top : top + (tile or height), left : left + (tile or width)]
                if tile:
                    room = [(0, tile - block.shape[0]), (0, tile - block.shape[1]), (0, 0)]
                    block = np.pad(block, room)
                blocks.append(block.tobytes())
    kind = {"u": 1, "i": 2, "f": 3}[array.dtype.kind]
    default = 2 if count >= 3 else 1
    tags: list[tuple[int, tuple[int, ...] | bytes]] = [
        (256, (width,)),
        (257, (height,)),
        (258, (8 * array.itemsize,) * count),
        (259, (1,)),
        (262, (default if photometric is None else photometric,)),
        (277, (count,)),
        (284, (2 if planar else 1,)),
        (339, (kind,) * count),
        (324 if tile else 273, tuple(range(len(blocks)))),
        (325 if tile else 279, tuple(len(block) for block in blocks)),
        *(((322, (tile,)), (323, (tile,))) if tile else ((278, (height,)),)),
        *((tag, (value,) if isinstance(value, int) else value) for tag, value in extra),
    ]
    return _tiff_of(sorted(tags), blocks, big)


def _tiff_of(
    tags: list[tuple[int, tuple[int, ...] | bytes]], blocks: list[bytes], big: bool
) -> bytes:
    """Header, pixels, then the directory and what does not fit in it."""
    number, entry, room = ("Q", "<HHQ", 8) if big else ("I", "<HHI", 4)
    header = 16 if big else 8
    data = b"".join(blocks)
    data += bytes(len(data) % 2)
    directory = header + len(data)
    behind = directory + (8 if big else 2) + len(tags) * (20 if big else 12) + (8 if big else 4)
    entries, tail = b"", b""
    for tag, value in tags:
        if tag in (273, 324):
            ends = np.cumsum([0, *(len(block) for block in blocks)])
            value = tuple(int(header + end) for end in ends[:-1])
        kind = 2 if isinstance(value, bytes) else 4
        packed = value if isinstance(value, bytes) else struct.pack(f"<{len(value)}I", *value)
        place = packed.ljust(room, b"\0")
        if len(packed) > room:
            place = struct.pack(f"<{number}", behind + len(tail))
            tail += packed + bytes(len(packed) % 2)
        entries += struct.pack(entry, tag, kind, len(value)) + place
    start = b"II+\0\x08\0\0\0" if big else b"II*\0"
    count = struct.pack("<Q" if big else "<H", len(tags))
    end = bytes(8 if big else 4)
    return start + struct.pack(f"<{number}", directory) + data + count + entries + end + tail


def jpeg_with(jpeg: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG with segments (marker, content) behind its first marker."""
    parts = (struct.pack(">BBH", 0xFF, m, len(c) + 2) + c for m, c in segments)
    return jpeg[:2] + b"".join(parts) + jpeg[2:]


# 8x8 pixels, red rises from 0 to 56,000 of 65,535; of imagecodecs 2026.3.6
JP2_16 = base64.b64decode(
    "AAAADGpQICANCocKAAAAFGZ0eXBqcDIgAAAAAGpwMiAAAAAtanAyaAAAABZpaGRyAAAACAAAAAgAAw8HAAAAAAAPY29s"
    "cgEAAAAAABAAAAEeanAyY/9P/1EALwAAAAAACAAAAAgAAAAAAAAAAAAAAAgAAAAIAAAAAAAAAAAAAw8BAQ8BAQ8BAf9S"
    "AAwAAAABAQAEBAAB/1wABECA/2QAJQABQ3JlYXRlZCBieSBPcGVuSlBFRyB2ZXJzaW9uIDIuNS40/5AACgAAAAAApgAB"
    "/5Pf+JKAEWqh4uAFiSDAs9rX9iHUmbNB4nW+tpdWxt83zfN83zfOAYj41sgAT1PQHzPKIKibPhBT2gHAm13K8jw4gz3S"
    "db62l1bS8OGw2Gw2Gw2I9N+A3/iR+CxWCxzvI9p6hxLB7AcRlRCqaJf/fOiMAzrQUajAxrP9h/KQUyhNCtzlcfqfdLq2"
    "SkHkmpcK3OVx3X326Jf/f//Z"
)
AVIF_10 = base64.b64decode(
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAA"
    "AAAAAAAAAAAAAAAOcGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAANwAAAChpaW5mAAAAAAABAAAA"
    "GmluZmUCAAAAAAEAAGF2MDFDb2xvcgAAAABqaXBycAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAACAAAAAgAAAAQcGl4aQAA"
    "AAADCgoKAAAADGF2MUOBIEAAAAAAE2NvbHJuY2x4AAIAAgAAgAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAAP21kYXQS"
    "AAoIOAi/5wICAJAyKRAAADBmQnIhnl8cLVwamk+ma9ENH7ZXpcsrOD2Z5JquojJPw3+d/LhA"
)
JXL_16 = base64.b64decode(
    "AAAADEpYTCANCocKAAAAFGZ0eXBqeGwgAAAAAGp4bCAAAAAJanhsbAoAAABHanhsY/8KQfADULQICAQBAMQASyg0Fr6m"
    "oCAhBaqXAgfjF4gD4AFr9+f35/fn9+f35/fn/68WAJzjAlUFAAAAAAAAAA=="
)
JXL_8 = base64.b64decode("/wpBQCQIBAEApABLOGgYwtMdCgoSTlC9FOa/QBwAT7u+vr6/vv6zAOAcF6gqAAAAAAAAAA==")
JXL_FRAMES = base64.b64decode(
    "/wpBBE0AICYIBAEApABLOGgYwtMdCgoSTlC9FOa/QBwAT7u+vr6/vv6zAOAcF6gqAAAAAAAAAAgEBQCkAEs4aBjC0x0K"
    "ChJOUL0U5r9AHABPu76+vr++/rMA4BwXqCoAAAAAAAAA"
)
