"""The container: one field list both ways, every damaged byte noticed."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest

from mambaic.container.fields import MAGIC, VERSION, MbicFile, describe, read, tile_grid, write
from mambaic.errors import (
    BitstreamError,
    CorruptStream,
    NotAnMbicFile,
    TruncatedStream,
    UnsupportedVersion,
)

FILE = MbicFile(
    width=300, height=200, gray=False, quality=61.25, weights_id=b"1234", tile=0,
    tiles=(b"payload!" * 5,), chunks={"icc": b"profile", "alpha": b"plane"},
)  # fmt: skip


def test_file_reads_back_as_written():
    assert read(write(FILE)) == FILE


@pytest.mark.parametrize("tune", [0.25, 0.5, 0.75, 1.0])
def test_tune_takes_two_bytes_and_reads_back(tune):
    file = replace(FILE, tune=tune)
    assert read(write(file)) == file
    assert describe(write(file))["tune"] == tune
    assert len(write(file)) == len(write(FILE)) + 2


def test_lag_of_colours_takes_a_byte_and_reads_back():
    fine = replace(FILE, fine=True, coloured=(True,), tune=0.5)
    file = replace(fine, colour_lag=25)
    assert read(write(file)) == file
    assert describe(write(file))["colour_lag"] == 25
    assert len(write(file)) == len(write(fine)) + 1


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    """``data`` with one part of its header changed and its checksum made right again."""
    assert data[:40].count(old) == 1
    body = data[:-4].replace(old, new, 1)
    return body + zlib.crc32(body).to_bytes(4, "little")


@pytest.mark.parametrize(("stored", "reason"), [(0, "tune"), (5, "outside"), (0x7F, "outside")])
def test_tune_that_no_encoder_writes_is_refused(stored, reason):
    file = replace(FILE, tune=0.75, quality=1.0)
    written, changed = (bytes([100, tune]) + FILE.weights_id for tune in (3, stored))
    with pytest.raises(CorruptStream, match=reason):
        read(patched(write(file), written, changed))


@pytest.mark.parametrize(("stored", "reason"), [(0, "colour_lag"), (101, "outside")])
def test_lag_that_no_encoder_writes_is_refused(stored, reason):
    file = replace(FILE, fine=True, coloured=(True,), colour_lag=25, quality=1.0)
    written, changed = (bytes([100, lag]) + FILE.weights_id for lag in (25, stored))
    with pytest.raises(CorruptStream, match=reason):
        read(patched(write(file), written, changed))


def test_lag_of_colours_without_colours_is_refused():
    with pytest.raises(ValueError, match="lag"):
        write(replace(FILE, colour_lag=25))


@pytest.mark.parametrize("unknown", [b"\x89\x20", b"\x89\x80\x01"])
def test_unknown_flags_are_refused_by_name(unknown):
    """Bits 12 and 14 beside those for ICC and alpha."""
    with pytest.raises(UnsupportedVersion, match="features"):
        read(patched(write(FILE), b"MBIC\x06\x09", b"MBIC\x06" + unknown))


def test_tiled_file_reads_back_as_written():
    count = len(tile_grid(300, 200, 8))
    tiles = tuple(bytes(6 + 4 * i) for i in range(count))
    file = MbicFile(
        width=300, height=200, gray=True, quality=0.0, weights_id=b"1234", tile=8, tiles=tiles
    )
    assert count == 6
    assert read(write(file)) == file


def test_file_with_finest_colours_in_some_tiles_reads_back_as_written():
    tiles = tuple(bytes(6 + 4 * i) for i in range(6))
    coloured = (True, False, True, True, False, False)
    file = MbicFile(
        width=300, height=200, gray=False, quality=97.0, weights_id=b"1234", tile=8, tiles=tiles,
        fine=True, coloured=coloured,
    )  # fmt: skip
    assert read(write(file)) == file
    assert describe(write(file))["tiles_with_finest_colours"] == 3


def test_overhead_of_a_plain_photograph_is_at_most_28_bytes():
    plain = MbicFile(
        width=4000, height=3000, gray=False, quality=60.0, weights_id=b"1234", tile=0,
        tiles=(bytes(40000),),
    )  # fmt: skip
    assert describe(write(plain))["overhead_bytes"] <= 28


@pytest.mark.parametrize("bit", [0, 3, 7])
def test_every_flipped_bit_is_noticed(bit):
    data = write(FILE)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << bit
        with pytest.raises(BitstreamError):
            read(bytes(damaged))


def test_every_truncation_and_every_extension_is_noticed():
    data = write(FILE)
    for length in range(4, len(data)):
        with pytest.raises(TruncatedStream):
            read(data[:length])
    with pytest.raises(BitstreamError, match="follow the end"):
        read(data + b"x")


def test_foreign_data_is_named():
    with pytest.raises(NotAnMbicFile):
        read(b"\x89PNG\r\n\x1a\n" + bytes(50))


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        *((version, "before the first release") for version in range(1, VERSION)),
        *((version, "update mambaic") for version in (0, VERSION + 1, 255)),
    ],
)
def test_other_version_is_refused_by_name(version, advice):
    with pytest.raises(UnsupportedVersion, match=f"version {version} is not known.*{advice}"):
        read(MAGIC + bytes([version]) + write(FILE)[5:])


def test_claims_are_refused_before_memory_is_taken():
    huge = MbicFile(
        width=65535, height=65535, gray=False, quality=1.0, weights_id=b"1234", tile=256,
        tiles=(b"",) * 256,
    )  # fmt: skip
    with pytest.raises(BitstreamError, match="limit"):
        read(write(huge))
    one_tile = MbicFile(
        width=8000, height=8000, gray=False, quality=1.0, weights_id=b"1234", tile=0,
        tiles=(b"",),
    )  # fmt: skip
    with pytest.raises(ValueError, match="larger than 65536"):
        write(one_tile)
