"""Directories of TIFF files, which EXIF blocks are too: fields read and written as raw bytes.

[TIFF6]   TIFF, Revision 6.0, Adobe 1992, section 2.
[BigTIFF] The BigTIFF file format, https://libtiff.gitlab.io/libtiff/specification/bigtiff.html

Values are never interpreted, so that whatever type a camera gave them stays. What cannot be read
is left out, without an error: directories come from untrusted files.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import IO, Literal, NamedTuple, TypeAlias

import numpy as np

BYTE, SHORT, LONG = 1, 3, 4
# bytes of a value of each type
SIZES = {
    BYTE: 1, 2: 1, SHORT: 2, LONG: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
    16: 8, 17: 8, 18: 8,
}  # fmt: skip
# types of BigTIFF alone (LONG8, SLONG8, IFD8): the classic type of half the size
CLASSIC = {16: LONG, 17: 9, 18: 13}
RATIONALS = (5, 10)  # two numbers of half the size
MAX_ENTRIES = 4096  # of a directory
MAX_VALUES = 1 << 24  # bytes of all values of a directory: many fields may claim the same place
MAX_OFFSET = 1 << 62

Order = Literal["little", "big"]


class Field(NamedTuple):
    """A value: its TIFF type and its bytes, in the byte order of their file."""

    kind: int
    data: bytes


Directory: TypeAlias = "dict[int, Field | Directory]"  # by tag; a directory: one pointed to


class Entry(NamedTuple):
    """A line of a directory: tag, type, number of values; ``at``: the offset of its first byte."""

    tag: int
    kind: int
    values: int
    at: int


class TiffReader:
    """Reads directories of a seekable file. Raises ValueError if it is no TIFF."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        head = self._read(0, 16)
        if head[:2] not in (b"II", b"MM") or head[2:4] not in (b"*\0", b"\0*", b"+\0", b"\0+"):
            raise ValueError("not a TIFF header")
        self.order: Order = "little" if head[:2] == b"II" else "big"
        self.big = b"+" in head[2:4]
        self.first = self.number(head[8:16] if self.big else head[4:8])
        # bytes of: the number of entries, an entry, the value or offset in it
        self._count, self._entry, self._inline = (8, 20, 8) if self.big else (2, 12, 4)

    def number(self, data: bytes) -> int:
        return int.from_bytes(data, self.order)

    def entries(self, offset: int) -> Iterator[Entry]:
        """Entries of the directory at ``offset`` whose type is known."""
        count = self.number(self._read(offset, self._count))
        for index in range(min(count, MAX_ENTRIES)):
            at = offset + self._count + index * self._entry
            raw = self._read(at, self._entry)
            if len(raw) < self._entry:
                return
            kind, values = self.number(raw[2:4]), self.number(raw[4 : -self._inline])
            if kind in SIZES:
                yield Entry(self.number(raw[:2]), kind, values, at)

    def fields(self, offset: int, tags: Container[int] | None = None) -> dict[int, Field]:
        """Fields of the directory at ``offset`` by tag, the first of each; only of ``tags``."""
        found: dict[int, Field] = {}
        left = MAX_VALUES
        for entry in self.entries(offset):
            size = entry.values * SIZES[entry.kind]
            if entry.tag in found or size > left or (tags is not None and entry.tag not in tags):
                continue
            data = self._value(entry, size)
            if size and len(data) == size:
                found[entry.tag] = Field(entry.kind, data)
                left -= size
        return found

    def _value(self, entry: Entry, size: int) -> bytes:
        at = entry.at + self._entry - self._inline
        if size > self._inline:
            at = self.number(self._read(at, self._inline))
        return self._read(at, size)

    def next(self, offset: int) -> int:
        """Offset of the directory that follows the one at ``offset``; 0 if there is none."""
        count = self.number(self._read(offset, self._count))
        end = offset + self._count + min(count, MAX_ENTRIES) * self._entry
        return self.number(self._read(end, self._inline))

    def _read(self, offset: int, size: int) -> bytes:
        if offset > MAX_OFFSET:
            return b""
        self._file.seek(offset)
        return self._file.read(size)


def classic(field: Field, order: Order) -> Field | None:
    """The field with a type that classic TIFF has; None where a number is too large for it."""
    if field.kind not in CLASSIC:
        return field
    values = np.frombuffer(field.data, dtype=_number(field.kind, order))
    small = values.astype(_number(CLASSIC[field.kind], order))
    return Field(CLASSIC[field.kind], small.tobytes()) if (small == values).all() else None


def reordered(field: Field, old: Order, new: Order) -> Field:
    """The field in another byte order."""
    size = SIZES[field.kind] // (2 if field.kind in RATIONALS else 1)
    if old == new or size == 1:
        return field
    return Field(field.kind, np.frombuffer(field.data, dtype=f"u{size}").byteswap().tobytes())


def _number(kind: int, order: Order) -> np.dtype:
    sign = "i" if kind in (9, 17) else "u"
    return np.dtype(f"{'<' if order == 'little' else '>'}{sign}{SIZES[kind]}")


def header(order: Order, first: int) -> bytes:
    """The eight bytes that a classic TIFF begins with; its first directory lies at ``first``."""
    magic = b"II*\0" if order == "little" else b"MM\0*"
    return magic + first.to_bytes(4, order)


def write(directory: Directory, at: int, order: Order) -> bytes:
    """Bytes of a classic directory, of its values and of those it points to, for offset ``at``."""
    table = bytearray(len(directory).to_bytes(2, order))
    values = bytearray()
    values_at = at + 2 + 12 * len(directory) + 4
    for tag, field in sorted(directory.items(), key=lambda item: item[0]):
        place = values_at + len(values)
        if isinstance(field, dict):
            values += write(field, place, order)
            field = Field(LONG, place.to_bytes(4, order))
        data = field.data
        if len(data) > 4:
            values += data + b"\0" * (len(data) % 2)  # values lie at even offsets
            data = place.to_bytes(4, order)
        count = len(field.data) // SIZES[field.kind]
        table += tag.to_bytes(2, order) + field.kind.to_bytes(2, order)
        table += count.to_bytes(4, order) + data.ljust(4, b"\0")
    return bytes(table + b"\0\0\0\0" + values)
