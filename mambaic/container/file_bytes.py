"""The bytes of a file to decode, however a caller has it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from mambaic.errors import ImageError, NotAnMbicFile

FileBytes = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO


def file_bytes(source: FileBytes) -> bytes:
    """Of bytes, a path or a binary file. Raises ImageError if there is no file to read, and
    NotAnMbicFile on anything else."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    data: object = source
    try:
        if isinstance(source, str | os.PathLike):
            return Path(source).read_bytes()
        if hasattr(source, "read"):
            data = source.read()
    except (OSError, ValueError) as exc:
        raise ImageError(f"{source}: {getattr(exc, 'strerror', None) or exc}") from exc
    if isinstance(data, bytes):
        return data
    raise NotAnMbicFile(
        f"expected the bytes of an .mbic file, its path or a binary file, not "
        f"{type(source).__name__}"
    )
