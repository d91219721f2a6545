"""The work of a worker: bytes of pictures to bytes of files, or back."""

from __future__ import annotations

import time
from collections.abc import Set
from dataclasses import dataclass, field, replace
from typing import ClassVar

from mambaic.bulk.items import Item
from mambaic.container.fields import MAX_PIXELS
from mambaic.encoder.options import EncodeOptions
from mambaic.imaging.suffixes import IMAGE_SUFFIXES, MBIC_SUFFIX


@dataclass(frozen=True, kw_only=True)
class Compression:
    """Of pictures, with the weights ``model``."""

    model: str = "s"
    options: EncodeOptions = field(default_factory=EncodeOptions)
    max_pixels: int = MAX_PIXELS
    suffixes: ClassVar[Set[str]] = IMAGE_SUFFIXES
    new_suffix: ClassVar[str] = MBIC_SUFFIX

    def prepare(self, device: str) -> None:
        """Load what every picture needs. Raises CheckpointError, DeviceError."""
        from mambaic.codec import load

        load(self.model, device)

    def code(self, data: bytes, device: str) -> tuple[bytes, tuple[str, ...]]:
        """(file, notes on what it does not keep). Raises ImageError, ConfigError."""
        from mambaic.codec import load
        from mambaic.imaging.image import read_image

        picture = read_image(data, max_pixels=self.max_pixels)
        encoded = load(self.model, device).encode_picture(picture, self.options)
        return encoded.data, picture.notes


@dataclass(frozen=True, kw_only=True)
class Decompression:
    """Of .mbic files to images of a format, with the weights that they name or with ``model``."""

    model: str | None = None
    format: str = "png"
    strip: bool = False
    max_pixels: int = MAX_PIXELS
    suffixes: ClassVar[Set[str]] = {MBIC_SUFFIX}

    @property
    def new_suffix(self) -> str:
        return f".{self.format}"

    def prepare(self, device: str) -> None:
        """Load what every file needs. Raises CheckpointError, DeviceError."""
        from mambaic.codec import load

        if self.model is not None:
            load(self.model, device)

    def code(self, data: bytes, device: str) -> tuple[bytes, tuple[str, ...]]:
        """(file, notes on what it does not keep). Raises BitstreamError, OutputError."""
        from mambaic.codec import load, load_for
        from mambaic.imaging.export import image_bytes

        codec = load_for(data, device) if self.model is None else load(self.model, device)
        image = codec.decode(data, max_pixels=self.max_pixels)
        if self.strip:
            image.info.clear()
        encoded, notes = image_bytes(image, self.format)
        return encoded, tuple(notes)


Task = Compression | Decompression


def code(item: Item, task: Task, device: str) -> Item:
    """The item with its target's bytes, or with an error; what is no picture is left as it is."""
    if item.data is None:
        return item
    data, notes = item.data, item.notes
    started = time.perf_counter()
    try:
        if item.is_picture:
            data, notes = task.code(data, device)
    except Exception as exc:  # one bad picture does not end the others
        return item.failed(exc)
    seconds = time.perf_counter() - started
    return replace(item, data=data, n_bytes=len(data), notes=notes, seconds=seconds)
