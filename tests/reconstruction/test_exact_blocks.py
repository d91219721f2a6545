"""Exact blocks come back to the bit, cost what was counted, and damage is an error or a picture."""

from __future__ import annotations

import random

import numpy as np
import pytest
from conftest import photo_pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mambaic.errors import CorruptStream
from mambaic.reconstruction.exact_blocks import block_grid, check, cost, encode, paste


def read_back(pixels, mask):
    """The picture that the chunk is pasted over is gray."""
    pasted = np.full_like(pixels, 77)
    assert np.array_equal(paste(encode(pixels, mask), pasted), mask)
    return pasted


def all_blocks(pixels):
    return np.ones(block_grid(pixels.shape[1], pixels.shape[0]), np.uint8)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_blocks_of_few_colours_come_back(data):
    size = data.draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
    palette = data.draw(arrays.arrays(np.uint8, (4, 3)))
    pixels = palette[data.draw(arrays.arrays(np.uint8, size, elements=st.integers(0, 3)))]
    mask = data.draw(
        arrays.arrays(np.uint8, block_grid(size[1], size[0]), elements=st.integers(0, 1))
    )
    mask[-1, -1] = 1
    exact = np.repeat(np.repeat(mask, 32, axis=0), 32, axis=1)[: size[0], : size[1], None]
    assert np.array_equal(read_back(pixels, mask), np.where(exact, pixels, 77))


def test_noise_and_photographs_come_back():
    noise = np.random.default_rng(0).integers(0, 256, (33, 65, 3), dtype=np.uint8)
    for pixels in (noise, photo_pixels(40, 50)):
        assert np.array_equal(read_back(pixels, all_blocks(pixels)), pixels)
        assert len(encode(pixels, all_blocks(pixels))) < 1.25 * pixels.size


def test_chunk_has_the_length_that_was_counted():
    pixels = photo_pixels(64, 96) // 32 * 32
    mask = all_blocks(pixels)
    mask[0, 1] = 0
    costs = cost(pixels, mask)
    assert costs[0, 1] == 0
    assert abs(8 * len(encode(pixels, mask)) - costs.sum()) < 32


def test_a_checkerboard_of_pixels_takes_a_few_bytes():
    pixels = np.zeros((128, 128, 3), np.uint8)
    pixels[::2, 1::2] = pixels[1::2, ::2] = 255
    assert len(encode(pixels, all_blocks(pixels))) < 20


def test_checking_reads_what_pasting_reads():
    pixels = photo_pixels(40, 50) // 64 * 64
    chunk = encode(pixels, all_blocks(pixels))
    check(chunk, 50, 40)
    with pytest.raises(CorruptStream):
        check(chunk + b"\1\1", 50, 40)


@pytest.mark.parametrize("chunk", [b"\xff\xff", b"\1\0", b"\xff" * 3000])
def test_what_no_encoder_writes_is_refused(chunk):
    """No block, a zero at the end, bytes behind the last decision."""
    with pytest.raises(CorruptStream):
        check(chunk, 40, 40)


def test_damage_ends_in_an_error_or_a_picture():
    pixels = photo_pixels(40, 50) // 64 * 64
    chunk = encode(pixels, all_blocks(pixels))
    rng = random.Random(3)
    for _ in range(40):
        damaged = bytearray(chunk)
        damaged[rng.randrange(len(chunk))] ^= 1 << rng.randrange(8)
        try:
            paste(bytes(damaged[: rng.randrange(len(chunk))]), np.zeros_like(pixels))
        except CorruptStream:
            continue
