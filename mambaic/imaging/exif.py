"""EXIF blocks: kept as they are, but for the orientation, which the pixels take over.

[Exif] CIPA DC-008, Exif 2.32, section 4.6. A block is ``b"Exif\\0\\0"`` and a classic TIFF without
pixels: directory IFD0, which points to the Exif and GPS directories, and the thumbnail's, IFD1.
"""

from __future__ import annotations

import io
import re
from typing import IO

from mambaic.imaging.tiff_directory import (
    BYTE,
    LONG,
    SHORT,
    SIZES,
    Directory,
    Entry,
    Field,
    TiffReader,
    classic,
    header,
    reordered,
    write,
)

PREFIX = b"Exif\0\0"
WIDTH, HEIGHT, ORIENTATION, STRIP_OFFSETS, XMP = 0x0100, 0x0101, 0x0112, 0x0111, 0x02BC
EXIF, GPS, INTEROP = 0x8769, 0x8825, 0xA005  # pointers to directories
EXIF_WIDTH, EXIF_HEIGHT = 0xA002, 0xA003
# what IFD0 says about the picture and not about the layout of its file: document name,
# description, make, model, resolution, software, date, artist, computer, rating, copyright, and
# title, comment, author, keywords and subject as Windows has them
DESCRIPTIVE = (
    269, 270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 0x4746, 0x4749, 33432,
    *range(0x9C9B, 0x9CA0),
)  # fmt: skip


def upright(exif: bytes) -> tuple[bytes, int]:
    """(The block without orientation, the orientation it had, 1 to 8); all else is as it was.

    Stored sides of the picture are swapped if the orientation swaps them. A block that says
    nothing else comes back empty. Raises ValueError if it is none.
    """
    exif = re.sub(b"^(?:Exif\0\0)+", b"", exif)
    reader = TiffReader(io.BytesIO(exif))
    entries = list(reader.entries(reader.first))
    if reader.big or not entries:
        raise ValueError("not an EXIF block")
    orientation = _orientation(exif, reader, entries)
    if all(entry.tag == ORIENTATION for entry in entries) and not reader.next(reader.first):
        return b"", orientation
    if orientation == 1:
        return PREFIX + exif, 1
    out = bytearray(exif)
    for entry in entries:
        if entry.tag == ORIENTATION and _is_number(entry):
            size = SIZES[entry.kind]
            out[entry.at + 8 : entry.at + 8 + size] = (1).to_bytes(size, reader.order)
    if orientation > 4:
        _swap(out, entries, WIDTH, HEIGHT)
        if (pointer := reader.fields(reader.first, {EXIF}).get(EXIF)) is not None:
            _swap(out, list(reader.entries(reader.number(pointer.data))), EXIF_WIDTH, EXIF_HEIGHT)
    return PREFIX + bytes(out), orientation


def _orientation(exif: bytes, reader: TiffReader, entries: list[Entry]) -> int:
    for entry in entries:
        if entry.tag == ORIENTATION and _is_number(entry):
            value = reader.number(exif[entry.at + 8 : entry.at + 8 + SIZES[entry.kind]])
            return value if 1 <= value <= 8 else 1
    return 1


def _is_number(entry: Entry) -> bool:
    """Whether it holds one number, within its twelve bytes."""
    return entry.kind in (SHORT, LONG) and entry.values == 1


def _swap(exif: bytearray, entries: list[Entry], first: int, second: int) -> None:
    """Exchange the types and values of two numbers."""
    at = {e.tag: e.at for e in reversed(entries) if e.tag in (first, second) and _is_number(e)}
    if len(at) == 2:
        one, two = (slice(at[tag] + 2, at[tag] + 12) for tag in (first, second))
        exif[one], exif[two] = exif[two], exif[one]


def from_tiff(file: IO[bytes], offset: int) -> bytes:
    """The block of a TIFF's picture, whose directory lies at ``offset``; empty if it has none.

    Of IFD0 only what describes the picture, of BigTIFF what fits into the classic kind.
    """
    reader = TiffReader(file)
    directory = _read(reader, offset, DESCRIPTIVE)
    pointers = reader.fields(offset, {EXIF, GPS})
    for tag in pointers:
        directory[tag] = _read(reader, reader.number(pointers[tag].data))
    directory = {tag: field for tag, field in directory.items() if field}
    if not directory:
        return b""
    return PREFIX + header(reader.order, 8) + write(directory, 8, reader.order)


def _read(reader: TiffReader, offset: int, tags: tuple[int, ...] | None = None) -> Directory:
    out: Directory = {}
    order = reader.order
    for tag, field in reader.fields(offset, tags).items():
        small = classic(field, order)
        if small is None or tag in (EXIF, GPS):
            continue
        out[tag] = small
        if tag == INTEROP and tags is None:
            inner = reader.fields(reader.number(field.data))
            out[tag] = {k: f for k, v in inner.items() if (f := classic(v, order))}
    return {tag: field for tag, field in out.items() if field}


def into_tiff(tiff: bytes | memoryview, exif: bytes, xmp: bytes = b"") -> bytes:
    """A classic TIFF of one picture with a block and XMP, which replace none of its own fields.

    The block goes first, as it is, so that every offset in it still holds, those within a
    camera's private notes too; a new IFD0 that names both goes last.
    """
    block = exif.removeprefix(PREFIX)
    block += b"\0" * (len(block) % 2)
    picture = TiffReader(io.BytesIO(tiff))
    reader = TiffReader(io.BytesIO(block)) if block else picture
    directory: Directory = {}
    if block:
        pointers = reader.fields(reader.first, {EXIF, GPS})
        sound = {
            tag: field
            for tag, field in pointers.items()
            if any(True for _ in reader.entries(reader.number(field.data)))
        }
        directory = {**reader.fields(reader.first, DESCRIPTIVE), **sound}
    if xmp:
        directory[XMP] = Field(BYTE, xmp)
    for tag, field in picture.fields(picture.first).items():
        if tag == STRIP_OFFSETS:
            size = SIZES[field.kind]
            parts = [field.data[i : i + size] for i in range(0, len(field.data), size)]
            moved = [picture.number(part) + len(block) for part in parts]
            field = Field(LONG, b"".join(value.to_bytes(4, picture.order) for value in moved))
        directory[tag] = reordered(field, picture.order, reader.order)
    out = bytearray(block)
    out += tiff
    out += b"\0" * (len(out) % 2)
    out[:8] = header(reader.order, len(out))
    out += write(directory, len(out), reader.order)
    return bytes(out)
