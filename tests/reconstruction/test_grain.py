"""Grain: noise that depends on the seed and the place alone, and what a file keeps of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from conftest import photo_like, photo_pixels
from PIL import Image

from mambaic.codec import Codec
from mambaic.container import fields
from mambaic.errors import CorruptStream
from mambaic.reconstruction.grain import (
    BANDS,
    FIRST_KNOTS,
    KNOTS,
    LEVEL,
    LOWEST_KNOT,
    REACH,
    SPREADS,
    STEP,
    Grain,
    bands,
    hats,
    white_noise,
)
from mambaic.reconstruction.post_filter import Reconstruction
from mambaic.tiling import boxes

SOME = Grain(3, 8, ((20, 30, 40, 50), (0, 16, 24, 255)))


@pytest.fixture(scope="module")
def codec(unit_model):
    return Codec(unit_model)


def flat(height=128, width=128, error=16 * LEVEL):
    return Reconstruction(torch.full((3, height, width), 0.4), torch.full((height, width), error))


def test_reads_back_as_written():
    assert len(SOME.to_bytes()) == 10
    assert Grain.from_bytes(SOME.to_bytes()) == SOME


@pytest.mark.parametrize(
    "data",
    [b"", SOME.to_bytes()[:-1], SOME.to_bytes() + b"\0", b"\1\2" + bytes(8), b"\1\x10" + b"\7" * 8],
)
def test_damage_is_named(data):
    with pytest.raises(CorruptStream, match="grain is not as"):
        Grain.from_bytes(data)
    assert FIRST_KNOTS == 0x10


def test_noise_is_white():
    noise = white_noise(5, 0, 0, 512, 512)
    assert abs(noise.mean()) < 1
    assert noise.std() == pytest.approx((2 * (256**2 - 1) / 12) ** 0.5, rel=0.01)
    power = np.abs(np.fft.fft2(noise)) ** 2 / noise.size / noise.var()
    power[0, 0] = 1
    assert power.max() < 18  # exponentially distributed, of 2 ** 18 values
    assert power.reshape(16, 32, 16, 32).mean((1, 3)).std() < 1.3 / 32


def test_noise_is_a_function_of_seed_and_place():
    whole = white_noise(5, -7, -7, 60, 80)
    assert np.array_equal(white_noise(5, 13, 23, 20, 30), whole[20:40, 30:60])
    assert not np.array_equal(white_noise(6, -7, -7, 60, 80), whole)

    # as docs/format.md has it, in whole numbers of Python
    def mix(key, value):
        mixed = (key ^ (value + 1)) * 0x2C1B3C6D % 2**32
        return mixed ^ (mixed >> 15)

    row = mix(5, 13)
    key = mix(mix(row, 23), row)
    assert whole[20, 30] == (key >> 24) + (key >> 16) % 256 - 255


def test_bands_are_octaves_of_known_spread():
    of_bands = bands(torch.from_numpy(white_noise(1, 0, 0, 512, 512)))
    assert {tuple(band.shape) for band in of_bands} == {(512 - 2 * REACH,) * 2}
    for band, spread in zip(of_bands, SPREADS, strict=True):
        assert float(band.std()) == pytest.approx(spread, rel=0.01)
    # the share of changes from one pixel to the next says which is finer
    rough = [float(band.diff(dim=1).std() / band.std()) for band in of_bands]
    assert rough[0] > 1.5 * rough[1]


def test_noise_in_bands_is_exact():
    noise = torch.from_numpy(white_noise(1, 0, 0, 64, 64))
    for band, exact in zip(bands(noise), bands(noise.double()), strict=True):
        assert torch.equal(band.double(), exact)


@pytest.mark.parametrize("band", range(BANDS))
def test_strength_is_a_standard_deviation_where_the_picture_is_flat(band):
    rows = [(0,) * KNOTS] * BANDS
    rows[band] = (10, 20, 40, 80)
    grain = Grain(0, 8, tuple(rows))
    for knot, strength in enumerate(rows[band]):
        error = LOWEST_KNOT * 2 ** ((8 + knot) / 2)
        added = grain.add(flat(512, 512, error), 0, 0) - 0.4
        assert float(added.std()) == pytest.approx(strength * STEP, rel=0.05)
        assert torch.allclose(added[0], added[2], atol=1e-6)


def test_knots_share_what_lies_between_them():
    errors = torch.logspace(-5, 5, 50, base=2) * LEVEL
    of_knots = hats(errors.square(), 8)
    assert torch.allclose(of_knots.sum(dim=0), torch.ones(50))
    assert of_knots[:, 0].tolist() == [1, 0, 0, 0]
    assert of_knots[:, -1].tolist() == [0, 0, 0, 1]


def test_edges_get_less_than_flat_places():
    x = torch.full((3, 64, 128), 0.4)
    x[:, :, 66:] = 0.9
    added = SOME.add(Reconstruction(x, flat(64, 128).deviation), 0, 0) - x
    at_edge, away = added[:, :, 66:70], added[:, :, 96:]
    assert float(at_edge.std()) < 0.3 * float(away.std())


def test_parts_get_what_the_whole_gets():
    picture = Reconstruction(photo_like(96, 128)[0], 0.01 + 0.1 * photo_like(96, 128, 1)[0, 0])
    whole = SOME.add(picture, 160, 320)
    part = SOME.add(picture.cut(slice(16, 80), slice(32, 128)), 176, 352)
    torch.testing.assert_close(part[:, 8:-8, 8:], whole[:, 24:72, 40:], rtol=0, atol=1e-6)


def grained(codec, options=None):
    return codec.encode(Image.fromarray(photo_pixels(150, 200)), 20, grain=True, **(options or {}))


def test_grain_is_a_chunk_of_10_bytes_and_changes_nothing_else(codec):
    plain = codec.encode(Image.fromarray(photo_pixels(150, 200)), 20)
    file = fields.read(grained(codec))
    chunks = dict(file.chunks)
    assert len(chunks.pop("grain")) == 10
    assert fields.write(dataclasses.replace(file, chunks=chunks)) == plain
    assert np.abs(np.asarray(codec.decode(plain), int) - codec.decode(grained(codec))).max() > 1


def test_pieces_and_threads_agree(codec, monkeypatch, threads):
    data = grained(codec)
    whole = np.asarray(codec.decode(data), int)
    monkeypatch.setattr(boxes, "PIECE", 4)
    monkeypatch.setattr("mambaic.tiling.boxes.PIECE", 4)
    pieces = np.asarray(codec.decode(data), int)
    difference = np.abs(pieces - whole)
    assert difference.max() <= 1
    assert difference.mean() < 0.01
    assert codec.decode(data).tobytes() == codec.decode_batch([data, data])[1].tobytes()


def test_tiles_have_one_grain(codec):
    chunks = fields.read(grained(codec, {"tile": 4})).chunks
    assert len(chunks["grain"]) == 10


def test_gray_pictures_stay_gray(codec):
    data = codec.encode(Image.fromarray(photo_pixels(100, 120)).convert("L"), 20, grain=True)
    assert "grain" in fields.read(data).chunks
    assert codec.decode(data).mode == "L"


@pytest.mark.parametrize("forged", [bytes(10), b"\1"])
def test_damaged_grain_in_a_sound_file_is_named(codec, forged):
    file = fields.read(codec.encode(Image.fromarray(photo_pixels(64, 64)), 50))
    data = fields.write(dataclasses.replace(file, chunks={**file.chunks, "grain": forged}))
    for act in (codec.decode, codec.verify):
        with pytest.raises(CorruptStream, match="grain is not as"):
            act(data)
