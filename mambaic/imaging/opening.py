"""Opening pictures: a path, bytes or a file object becomes Pillow's image, by its content."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import re
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from PIL import Image, UnidentifiedImageError

from mambaic.container.fields import MAX_SIDE
from mambaic.errors import ImageError
from mambaic.imaging.held_jxl import jxl_size
from mambaic.imaging.metadata import open_image

File = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO


class Plugin(NamedTuple):
    """A package that teaches Pillow a format, where it is installed."""

    format: str  # Pillow's name
    module: str
    package: str
    start: re.Pattern[bytes]  # of a file


PLUGINS = (
    Plugin(
        "JXL", "pillow_jxl", "pillow-jxl-plugin",
        re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    ),
    Plugin(
        "HEIF", "pillow_heif", "pillow-heif",
        re.compile(rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL),
    ),
)  # fmt: skip

# where a file says that it is an archive, and how
ARCHIVES = {
    "a zip": (0, b"PK\x03\x04"),
    "a gzip": (0, b"\x1f\x8b"),
    "an xz": (0, b"\xfd7zXZ\0"),
    "a bzip2": (0, b"BZh"),
    "a zstd": (0, b"\x28\xb5\x2f\xfd"),
    "a 7-Zip": (0, b"7z\xbc\xaf\x27\x1c"),
    "a RAR": (0, b"Rar!\x1a\x07"),
    "a tar": (257, b"ustar"),
}
START_BYTES = 512  # that tell what a file is

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_open_lock = threading.Lock()


def _after_fork() -> None:
    global _open_lock
    _open_lock = threading.Lock()  # a thread that is not in the child may have held it


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)

# what Pillow and its plugins raise on damaged files; Warning where a caller makes errors of them
FOREIGN_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, EOFError,
    ArithmeticError, RuntimeError, AssertionError, struct.error, zlib.error, Warning,
)  # fmt: skip


@contextlib.contextmanager
def typed_errors(name: str) -> Iterator[None]:
    """Whatever goes wrong while Pillow reads becomes an ImageError of one line."""
    try:
        yield
    except FileNotFoundError as exc:
        raise ImageError(f"{name}: no such file") from exc
    except IsADirectoryError as exc:
        raise ImageError(f"{name}: is a folder, not an image") from exc
    except UnidentifiedImageError as exc:
        raise ImageError(f"{name}: not an image that Pillow can read") from exc
    except Image.DecompressionBombError as exc:
        raise ImageError(f"{name}: {exc}; raise --max-pixels if you trust it") from exc
    except MemoryError as exc:
        raise ImageError(f"{name}: too large for the memory there is") from exc
    except FOREIGN_ERRORS as exc:
        raise ImageError(f"{name}: unreadable image: {exc or type(exc).__name__}") from exc


def check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    """Raises ImageError on (width, height) that is more than the limits, or nothing."""
    width, height = size
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width}x{height} pixels are more than the limit of {max_pixels}: "
            "raise --max-pixels if you trust it"
        )
    if max(width, height) > MAX_SIDE or min(width, height) < 1:
        raise ImageError(f"{name}: sides must be 1 to {MAX_SIDE} pixels, not {width}x{height}")


@contextlib.contextmanager
def opened(source: File, name: str, max_pixels: int) -> Iterator[tuple[Image.Image, BinaryIO]]:
    """Pillow's image, its size checked before any pixel is read, and the file it is in.

    Pillow's own limit is off: it is a global variable, hence the lock around the time it is
    changed. Raises ImageError, also for what the body meets.
    """
    with typed_errors(name), contextlib.ExitStack() as stack:
        file = _as_file(source, stack)
        file.seek(0)
        start = file.read(START_BYTES)
        missing = _load_plugin(start, file, name, max_pixels)
        try:
            with _without_pillows_limit():
                image = stack.enter_context(open_image(file))
        except UnidentifiedImageError as exc:
            if missing is not None:
                raise ImageError(
                    f"{name}: a {missing.format} file, which needs: pip install {missing.package}"
                ) from exc
            if start.startswith(TIFF_STARTS):
                raise ImageError(
                    f"{name}: a TIFF of a kind of pixels that Pillow cannot read: convert it to "
                    "8 or 16 bits a channel"
                ) from exc
            if (archive := _archive(start)) is not None:
                raise ImageError(
                    f"{name}: {archive} archive, not an image: unpack it and give its folder"
                ) from exc
            raise
        check_size(image.size, name, max_pixels)
        yield image, file


def _archive(start: bytes) -> str | None:
    """Which archive begins with these bytes."""
    return next(
        (kind for kind, (at, mark) in ARCHIVES.items() if start[at:].startswith(mark)), None
    )


def load_pixels(image: Image.Image) -> None:
    """``image.load()`` of an image whose size was checked. Pillow checks that of TIFFs again when
    it makes room for their pixels, so room is made while its limit is off."""
    limit = Image.MAX_IMAGE_PIXELS
    if image.format == "TIFF" and limit is not None and image.width * image.height > limit:
        with _without_pillows_limit():
            image.load_prepare()  # type: ignore[attr-defined]
    image.load()


@contextlib.contextmanager
def _without_pillows_limit() -> Iterator[None]:
    with _open_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _as_file(source: File, stack: contextlib.ExitStack) -> BinaryIO:
    """Binary file that can be sought."""
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    if isinstance(source, str | os.PathLike):
        return stack.enter_context(Path(source).open("rb"))
    seekable: Any = getattr(source, "seekable", None)
    return source if seekable is not None and seekable() else io.BytesIO(source.read())


def _load_plugin(start: bytes, file: BinaryIO, name: str, max_pixels: int) -> Plugin | None:
    """Make Pillow know the format of this file; the plugin that it takes, if that is missing."""
    for plugin in PLUGINS:
        if plugin.start.match(start) is None:
            continue
        if plugin.format not in Image.OPEN:
            if importlib.util.find_spec(plugin.module) is None:
                return plugin
            module = importlib.import_module(plugin.module)
            if plugin.format == "HEIF":
                module.register_heif_opener()
        if plugin.format == "JXL":  # whose plugin decodes all pixels to open a file
            check_size(jxl_size(file), name, max_pixels)
    return None
