"""Every error a caller may want to catch, and the exit code the command line gives it.

MambaICError
|- ConfigError(ValueError)      a setting: field, value, rule                       exit 5
|- CheckpointError              weights missing, unreadable, of another model       exit 5
|- ImageError                   input image unreadable, unsupported, too large      exit 3
|- OutputError                  output exists, folder not writable, disk full       exit 3
|- DeviceError                  device or kernel asked for is not there             exit 6
|- MissingPackage(ImportError)  a package that an extra of mambaic brings           exit 6
`- BitstreamError               anything wrong with a file being decoded            exit 4
   |- NotAnMbicFile             does not start with the magic
   |- UnsupportedVersion        a later version or an unknown flag
   |- TruncatedStream           ends before the header says
   |- CorruptStream             a checksum or a rule of the format does not hold
   |- WrongModel                made with weights that are not at hand
   `- DesyncError               symbols differ from the encoder's: numerics, not damage
"""

from __future__ import annotations

# of RuntimeErrors: torch's allocator, C++, and Python without memory for another thread
OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "can't start new thread",
)


class MambaICError(Exception):
    """Root of the tree. ``exit_code`` is what ``mambaic`` returns for it."""

    exit_code = 1


class ConfigError(MambaICError, ValueError):
    """A setting breaks a rule; the message names the field, its value and the rule."""

    exit_code = 5


class CheckpointError(MambaICError):
    """Weights are missing, unreadable, or belong to another model."""

    exit_code = 5


class ImageError(MambaICError):
    """The input image cannot be read or used."""

    exit_code = 3


class OutputError(MambaICError):
    """The output cannot be written; nothing was changed."""

    exit_code = 3


class DeviceError(MambaICError):
    """The device or kernel asked for is not available; the message says how to get it."""

    exit_code = 6


class MissingPackage(MambaICError, ImportError):
    """A package that not everybody needs is missing; the message says which extra brings it."""

    exit_code = 6


class BitstreamError(MambaICError):
    """Something is wrong with the data being decoded."""

    exit_code = 4


class NotAnMbicFile(BitstreamError):
    """The data does not start with the .mbic magic."""


class UnsupportedVersion(BitstreamError):
    """The file is of a version or uses a feature that this decoder does not know."""


class TruncatedStream(BitstreamError):
    """The data ends before the header says it should."""


class CorruptStream(BitstreamError):
    """A checksum or a rule of the format does not hold."""


class WrongModel(BitstreamError):
    """The file was made with weights that are not at hand."""


class DesyncError(BitstreamError):
    """The decoded symbols differ from the encoder's: numerics differ, the file is not damaged."""


def as_known(exc: BaseException) -> MambaICError | None:
    """The error that ``exc`` is to the person who gave the command; None if it is a bug."""
    if isinstance(exc, MambaICError):
        return exc
    if type(exc).__name__ == "OutOfMemoryError":  # torch's, which is not imported for its name
        return DeviceError("not enough memory on the device: use --device cpu")
    if isinstance(exc, MemoryError) or (
        isinstance(exc, RuntimeError) and any(text in str(exc) for text in OUT_OF_MEMORY)
    ):
        return ImageError("not enough memory")
    if isinstance(exc, OSError) and exc.strerror:
        where = f"{exc.filename}: " if exc.filename else ""
        return OutputError(f"{where}{exc.strerror}")
    return None
