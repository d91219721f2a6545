"""The .mbic container, version 6; docs/format.md is its specification.

    magic "MBIC" | version | flags | width | height | quality | tune | lag of colours | weights id |
    tile side |
    payload length of every tile | lengths of the chunks |
    chunks (ICC, EXIF, XMP, alpha, filter, rotation, exact blocks, grain) | tile payloads |
    CRC32 of everything before it

One field list (``FIELDS``) serves the writer, the reader and ``mambaic info``.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mambaic.container.varint import ByteReader, write_varint
from mambaic.errors import (
    BitstreamError,
    CorruptStream,
    NotAnMbicFile,
    TruncatedStream,
    UnsupportedVersion,
)

MAGIC = b"MBIC"
VERSION = 6
WEIGHTS_ID_BYTES = 4
WORD_BYTES = 2  # payloads are counted in words
MIN_TILE_BYTES = 7  # a length, and the three words that every payload begins with
LATENT_STRIDE = 16
MAX_SIDE = 65535
MAX_PIXELS = 1 << 30
MAX_TILE_LATENTS = 1 << 16  # of one tile, so that a decoder's memory is bounded by the format
FLAGS = {
    "icc": 1 << 0,
    "exif": 1 << 1,
    "xmp": 1 << 2,
    "alpha": 1 << 3,
    "gray": 1 << 4,
    "filter": 1 << 5,
    "rotation": 1 << 6,
    "fine": 1 << 7,
    "tune": 1 << 8,
    "exact": 1 << 9,
    "colour_lag": 1 << 10,
    "grain": 1 << 11,
}
SETTINGS = ("gray", "fine", "tune", "colour_lag")  # flags of what stands in the header
CHUNKS = tuple(name for name in FLAGS if name not in SETTINGS)
MAX_LAG = 100
TUNES = 4  # steps of tune: few, as every one has an entropy model of its own
TASTES = {"psnr": 0.0, "eye": 1.0}


@dataclass(frozen=True, kw_only=True)
class MbicFile:
    """Everything in a file. ``tile`` is the side of latent tiles in latents, 0 for one tile, and
    ``tiles`` are their payloads. ``fine`` files have stretched qualities (as in ``ModelConfig``)
    and maybe finest colours: ``coloured`` says which tiles, ``colour_lag`` how many qualities more
    coarsely they are coded."""

    width: int
    height: int
    gray: bool
    quality: float
    tune: float = 0.0
    weights_id: bytes
    tile: int
    tiles: tuple[bytes, ...] = ()
    fine: bool = False
    coloured: tuple[bool, ...] = ()
    colour_lag: int = 0
    chunks: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Field:
    """One header field: how it is written and read; with a ``flag``, 0 where that is not set."""

    name: str
    write: Callable[[Any], bytes]
    read: Callable[[ByteReader, str], Any]
    flag: int = 0

    def absent(self, flags: int) -> bool:
        return bool(self.flag) and not flags & self.flag


def _raw(count: int) -> tuple[Callable[[Any], bytes], Callable[[ByteReader, str], Any]]:
    return bytes, lambda reader, name: reader.take(count, name)


FIELDS = (
    Field("flags", write_varint, ByteReader.varint),
    Field("width", write_varint, ByteReader.varint),
    Field("height", write_varint, ByteReader.varint),
    Field("quality_x100", write_varint, ByteReader.varint),
    Field("tune_x4", write_varint, ByteReader.varint, FLAGS["tune"]),
    Field("colour_lag", write_varint, ByteReader.varint, FLAGS["colour_lag"]),
    Field("weights_id", *_raw(WEIGHTS_ID_BYTES)),
    Field("tile", write_varint, ByteReader.varint),
)


def latent_size(width: int, height: int) -> tuple[int, int]:
    """Latent rows and columns of an image: its sides padded to 64 pixels, over 16."""
    return -(-height // 64) * 4, -(-width // 64) * 4


def tile_grid(width: int, height: int, tile: int) -> list[tuple[int, int, int, int]]:
    """(top, left, rows, columns) in latents of every tile, row by row."""
    rows, columns = latent_size(width, height)
    if tile == 0:
        return [(0, 0, rows, columns)]
    return [
        (top, left, min(tile, rows - top), min(tile, columns - left))
        for top in range(0, rows, tile)
        for left in range(0, columns, tile)
    ]


def largest_tile(width: int, height: int, tile: int) -> int:
    """Latents of the largest tile."""
    rows, columns = latent_size(width, height)
    return min(rows, tile or rows) * min(columns, tile or columns)


def stored_quality(quality: float) -> float:
    """Quality as a file keeps it: hundredths. Encoder and decoder both use this value."""
    return round(100 * quality) / 100


def stored_tune(tune: float) -> float:
    """Tune as a file keeps it: quarters. Encoder and decoder both use this value."""
    return round(TUNES * tune) / TUNES


def _header_bytes(file: MbicFile) -> bytes:
    given = {*file.chunks, *(name for name in SETTINGS if getattr(file, name))}
    flags = sum(flag for name, flag in FLAGS.items() if name in given)
    values = {
        "flags": flags,
        "width": file.width,
        "height": file.height,
        "quality_x100": round(100 * file.quality),
        "tune_x4": round(TUNES * file.tune),
        "colour_lag": file.colour_lag,
        "weights_id": file.weights_id,
        "tile": file.tile,
    }
    out = MAGIC + bytes([VERSION])
    fields = [entry for entry in FIELDS if not entry.absent(flags)]
    out += b"".join(entry.write(values[entry.name]) for entry in fields)
    lengths = [len(payload) // WORD_BYTES for payload in file.tiles]
    if file.fine:
        lengths = [2 * length + own for length, own in zip(lengths, file.coloured, strict=True)]
    out += b"".join(map(write_varint, lengths))
    for name in CHUNKS:
        if name in file.chunks:
            out += write_varint(len(file.chunks[name]))
    return out


def write(file: MbicFile) -> bytes:
    """Bytes of a file. Raises ValueError on fields out of their range (a bug of the caller)."""
    _check_fields(file, ValueError)
    if len(file.tiles) != len(tile_grid(file.width, file.height, file.tile)):
        raise ValueError("the number of tiles does not fit the image and tile size")
    header = _header_bytes(file)
    body = b"".join(file.chunks[name] for name in CHUNKS if name in file.chunks)
    body += b"".join(file.tiles)
    return header + body + _crc(header + body)


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def _check_fields(file: MbicFile, error: type[Exception]) -> None:
    if not (1 <= file.width <= MAX_SIDE and 1 <= file.height <= MAX_SIDE):
        raise error(f"image size {file.width}x{file.height} is outside 1..{MAX_SIDE}")
    if not 0 <= file.quality <= 100:
        raise error(f"quality {file.quality} is outside 0..100")
    if not 0 <= file.tune <= 1:
        raise error(f"tune {file.tune} is outside 0..1")
    if not 0 <= file.colour_lag <= (MAX_LAG if file.fine else 0):
        raise error(f"the lag of colours {file.colour_lag} is outside 0..{MAX_LAG} of fine files")
    if file.tile % 4:
        raise error(f"tile side {file.tile} is not a multiple of 4 latents")
    largest = largest_tile(file.width, file.height, file.tile)
    if largest > MAX_TILE_LATENTS:
        raise error(f"a tile of {largest} latents is larger than {MAX_TILE_LATENTS}")
    if len(file.weights_id) != WEIGHTS_ID_BYTES:
        raise error(f"the weights id must have {WEIGHTS_ID_BYTES} bytes")


def _read_fields(data: bytes) -> tuple[MbicFile, ByteReader, int]:
    """Fixed fields of the header, not yet verified; the reader stands behind them."""
    if data[:4] != MAGIC:
        if MAGIC.startswith(data[:4]):
            raise TruncatedStream(f"the file has only {len(data)} bytes: it was cut off")
        raise NotAnMbicFile("not an .mbic file: it does not start with MBIC")
    reader = ByteReader(data)
    reader.take(4, "magic")
    version = reader.take(1, "version")[0]
    if version != VERSION:
        advice = "update mambaic, or the file is damaged"
        if 0 < version < VERSION:  # never released
            advice = "it was made before the first release; decode it with the mambaic that made it"
        raise UnsupportedVersion(
            f"format version {version} is not known (this decoder reads {VERSION}): {advice}"
        )
    values: dict[str, Any] = {"flags": 0}
    for entry in FIELDS:
        known = 0 if entry.absent(values["flags"]) else entry.read(reader, entry.name)
        values[entry.name] = known
    flags = values["flags"]
    if flags & ~sum(FLAGS.values()):
        raise UnsupportedVersion(
            f"flags {flags:#x} name features that this decoder does not know: update mambaic"
        )
    file = MbicFile(
        width=values["width"],
        height=values["height"],
        gray=bool(flags & FLAGS["gray"]),
        fine=bool(flags & FLAGS["fine"]),
        quality=values["quality_x100"] / 100,
        tune=values["tune_x4"] / TUNES,
        colour_lag=values["colour_lag"],
        weights_id=values["weights_id"],
        tile=values["tile"],
    )
    _check_fields(file, CorruptStream)
    for name, value in (("tune", file.tune), ("colour_lag", file.colour_lag)):
        if flags & FLAGS[name] and not value:
            raise CorruptStream(f"the file says that it has a {name} and has none: it is damaged")
    return file, reader, flags


def read(data: bytes, *, max_pixels: int = MAX_PIXELS) -> MbicFile:
    """The file in ``data``, every checksum of the container verified.

    Takes no memory that the data does not back: the header is checked against ``max_pixels`` and
    against the bytes present first. Raises a BitstreamError.
    """
    file, reader, flags = _read_fields(data)
    if file.width * file.height > max_pixels:
        raise BitstreamError(
            f"the file claims {file.width}x{file.height} pixels, more than the limit of "
            f"{max_pixels}: raise --max-pixels if you trust it"
        )
    rows, columns = latent_size(file.width, file.height)
    count = -(-rows // file.tile) * -(-columns // file.tile) if file.tile else 1
    if count * MIN_TILE_BYTES > len(data):
        raise TruncatedStream(f"the header claims {count} tiles, more than the file can hold")
    table = [reader.varint("tile table") for _ in range(count)]
    coloured: tuple[bool, ...] = ()
    if file.fine:
        coloured = tuple(bool(entry & 1) for entry in table)
        table = [entry >> 1 for entry in table]
    present = [name for name in CHUNKS if flags & FLAGS[name]]
    lengths = {name: reader.varint(f"length of {name}") for name in present}
    chunks = {name: reader.take(length, name) for name, length in lengths.items()}
    tiles = tuple(reader.take(WORD_BYTES * length, "payload") for length in table)
    end = reader.position
    if reader.take(4, "checksum") != _crc(data[:end]):
        raise CorruptStream("the checksum does not match: the file is damaged")
    if reader.position != len(data):
        extra = len(data) - reader.position
        raise CorruptStream(f"{extra} bytes follow the end of the file: remove them")
    values = {**file.__dict__, "tiles": tiles, "coloured": coloured, "chunks": chunks}
    return MbicFile(**values)


def read_size(data: bytes) -> tuple[int, int, bool, bool]:
    """(width, height, gray, has alpha) from the first bytes of a file, without its payload."""
    file, _, flags = _read_fields(data)
    return file.width, file.height, file.gray, bool(flags & FLAGS["alpha"])


def describe_weights(data: bytes) -> bytes:
    """Id of the weights that made a file, from its header. Raises a BitstreamError."""
    return _read_fields(data)[0].weights_id


def bpp_from_bytes(n_bytes: int, width: int, height: int) -> float:
    """Rate of a finished file, header included, in bits per original pixel."""
    return 8 * n_bytes / (width * height)


def describe(data: bytes) -> dict[str, Any]:
    """What ``mambaic info`` shows. Raises a BitstreamError."""
    file = read(data)
    payload = sum(map(len, file.tiles))
    return {
        "version": VERSION,
        "width": file.width,
        "height": file.height,
        "mode": ("L" if file.gray else "RGB") + ("A" if "alpha" in file.chunks else ""),
        "quality": file.quality,
        "tune": file.tune,
        "weights_id": file.weights_id.hex(),
        "tile": file.tile,
        "tiles": len(file.tiles),
        "tiles_with_finest_colours": sum(file.coloured),
        "colour_lag": file.colour_lag,
        "bytes": len(data),
        "bpp": bpp_from_bytes(len(data), file.width, file.height),
        "payload_bytes": payload,
        "chunks": {name: len(chunk) for name, chunk in file.chunks.items()},
        "overhead_bytes": len(data) - payload - sum(map(len, file.chunks.values())),
    }
