"""What commands write to stdout and read from stdin, with the errors that a person is told."""

from __future__ import annotations

import sys

from mambaic.errors import ImageError, OutputError
from mambaic_cli.streams import discard_rest, put_line


def tell(text: str) -> None:
    """A line on stdout. A reader who has left (``| head -1``) misses it, as does a closed stdout.
    Raises OutputError on a full disk behind it."""
    try:
        if sys.stdout is not None:
            put_line(sys.stdout, text)
    except BrokenPipeError:
        pass
    except OSError as exc:
        raise OutputError(f"stdout: cannot be written: {exc.strerror}") from exc


def tell_all(text: str) -> None:
    """``tell`` of every line of a text."""
    for line in text.splitlines():
        tell(line)


def write_stdout(data: bytes) -> None:
    """Raises OutputError."""
    if sys.stdout is None:
        raise OutputError("stdout: cannot be written: it is closed")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as exc:
        discard_rest(sys.stdout)
        raise OutputError(f"stdout: cannot be written: {exc.strerror}") from exc


def read_stdin() -> bytes:
    """Raises ImageError."""
    if sys.stdin is None:
        raise ImageError("stdin: cannot be read: it is closed")
    try:
        return sys.stdin.buffer.read()
    except OSError as exc:
        raise ImageError(f"stdin: cannot be read: {exc.strerror}") from exc
