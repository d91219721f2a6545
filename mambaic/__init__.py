"""mambaic: a learned image codec with selective state-space transforms.

    import mambaic
    codec = mambaic.load("s")
    data = codec.encode(image, quality=60)
    image = codec.decode(data)

Importing also lets Pillow open and save ``.mbic`` files. torch is imported when first needed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mambaic.errors import (
    BitstreamError,
    CheckpointError,
    ConfigError,
    CorruptStream,
    DesyncError,
    DeviceError,
    ImageError,
    MambaICError,
    MissingPackage,
    NotAnMbicFile,
    OutputError,
    TruncatedStream,
    UnsupportedVersion,
    WrongModel,
)
from mambaic.integrations import pillow as _pillow

if TYPE_CHECKING:
    from mambaic.codec import Codec, EncodeOptions, decode, load, load_for

__version__ = "0.1.0"

__all__ = [
    "BitstreamError",
    "CheckpointError",
    "Codec",
    "ConfigError",
    "CorruptStream",
    "DesyncError",
    "DeviceError",
    "EncodeOptions",
    "ImageError",
    "MambaICError",
    "MissingPackage",
    "NotAnMbicFile",
    "OutputError",
    "TruncatedStream",
    "UnsupportedVersion",
    "WrongModel",
    "decode",
    "load",
    "load_for",
]

# OpenMP's threads, which torch starts, wait for one that lost its core in a loop that takes
# milliseconds by default: beside another busy process, coding on two cores took 15 times as long
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "4000")

_pillow.register()


def __getattr__(name: str) -> Any:
    if name in ("Codec", "EncodeOptions", "decode", "load", "load_for"):
        from mambaic import codec

        return getattr(codec, name)
    raise AttributeError(f"module 'mambaic' has no attribute {name!r}")
