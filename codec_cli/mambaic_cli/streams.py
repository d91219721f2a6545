"""The standard streams of a program: closed, full, without a reader, of any encoding."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import unicodedata
from typing import TextIO


def prepare_streams() -> None:
    """At the start: what an encoding lacks is written as escapes, and files that are opened do not
    get the numbers of closed streams, which libraries print to."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush_all() -> bool:
    """At the end: whether everything that was printed has arrived, or its reader has left."""
    arrived = True
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError as exc:
            discard_rest(stream)
            arrived &= isinstance(exc, BrokenPipeError) or stream is sys.stderr
    return arrived


def discard_rest(stream: TextIO) -> None:
    """Send nowhere what a stream still holds: at the exit Python would try it again."""
    with contextlib.suppress(OSError):  # a stream without a number, in tests
        number = stream.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)


def put_line(stream: TextIO, text: str) -> None:
    """``text`` on one line. Raises OSError."""
    put(stream, printable(text) + "\n")


def put(stream: TextIO, text: str) -> None:
    """Text of any lines and characters. Raises OSError."""
    encoding = stream.encoding or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except OSError:
        discard_rest(stream)
        raise


def printable(text: str) -> str:
    """Control characters, and bytes of names that are no text, as escapes."""
    return "".join(c if unicodedata.category(c) not in ("Cc", "Cs") else _escape(c) for c in text)


def _escape(character: str) -> str:
    # how Python holds a byte of a file name that is no UTF-8
    undecoded = 0xDC80 <= ord(character) <= 0xDCFF
    shown = chr(ord(character) - 0xDC00) if undecoded else character
    return shown.encode("unicode_escape").decode()


def warn(text: str) -> None:
    """A line on stderr, for notes and failures. That it cannot be written fails nothing."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            put_line(sys.stderr, text)
