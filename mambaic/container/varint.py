"""Unsigned LEB128 integers: 7 bits a byte, least significant first, high bit set if more follow."""

from __future__ import annotations

from mambaic.errors import CorruptStream, TruncatedStream

MAX_BYTES = 5  # values up to 2**35 - 1


def write_varint(value: int) -> bytes:
    """Shortest form of a non-negative integer under 2**35."""
    if not 0 <= value < 1 << (7 * MAX_BYTES):
        raise ValueError(f"{value} does not fit a varint of {MAX_BYTES} bytes")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class ByteReader:
    """Reads from the front of ``data``. Raises TruncatedStream past its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def take(self, count: int, what: str) -> bytes:
        """The next ``count`` bytes; ``what`` names them in the error."""
        end = self.position + count
        if end > len(self._data):
            raise TruncatedStream(
                f"the file ends after {len(self._data)} bytes, inside its {what}: it was cut off"
            )
        piece = self._data[self.position : end]
        self.position = end
        return piece

    def varint(self, what: str) -> int:
        """The next integer. Raises CorruptStream unless it is in its shortest form."""
        value = 0
        for index in range(MAX_BYTES):
            byte = self.take(1, what)[0]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if byte == 0 and index:
                    raise CorruptStream(f"{what} is not in its shortest form: the data is damaged")
                return value
        raise CorruptStream(f"{what} is too large: the data is damaged")
