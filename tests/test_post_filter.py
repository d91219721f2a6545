"""The post-filter: found by least squares, written in bits, applied alike piece by piece."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from conftest import photo_like, photo_pixels
from PIL import Image

from mambaic import bitstream, post_filter, tiling
from mambaic.codec import Codec
from mambaic.errors import CorruptStream
from mambaic.filter_terms import AROUND, ORDER, TERMS, Drawn
from mambaic.image import read_image
from mambaic.post_filter import IDLE, Fit, PostFilter

RNG = np.random.default_rng(3)
EXACT = 1e9  # bits that a squared error is worth where bits shall not matter


def some_filter(reach: int = 9, fineness: int = 4) -> PostFilter:
    rows = (RNG.integers(-reach, reach + 1, len(terms)) for terms in TERMS)
    return PostFilter(fineness, tuple(tuple(map(int, row)) for row in rows))


def picture(height=160, width=180, seed=0):
    """Smooth regions and noise (3, H, W), so that clipped differences are terms of their own."""
    # colours that the brightness does not tell
    x = torch.cat([photo_like(height, width, seed + plane)[0, :1] for plane in range(3)])
    x = (x + 0.03 * torch.from_numpy(RNG.normal(size=x.shape)).float()).clamp(0, 1)
    return Drawn(x, 0.01 + 0.1 * photo_like(height, width, seed + 3)[0, 0])


def pixels(drawn):
    return drawn.x_hat[0].numel()


def flat():
    return Drawn(torch.full((3, 64, 64), 0.4), torch.zeros(64, 64))


@pytest.fixture(scope="module")
def codec(unit_model):
    return Codec(unit_model)


@pytest.mark.parametrize("reach", [0, 1, 9, 5000])
def test_filter_reads_back_as_written(reach):
    for fineness in range(8):
        written = some_filter(reach, fineness)
        assert PostFilter.from_bytes(written.to_bytes()) == written


@pytest.mark.parametrize("count", [0, 1, 29])
def test_numbers_left_out_at_the_end_are_zero(count):
    """So files from before a term came are read, and none that is not used costs a bit."""
    rows = [[0] * len(terms) for terms in TERMS]
    for own, at in ORDER[:count]:
        rows[own][at] = 1
    short = PostFilter(4, tuple(map(tuple, rows)))
    data = short.to_bytes()
    assert len(data) == -(-(3 + 3 * count) // 8)
    assert PostFilter.from_bytes(data) == short


def test_damaged_filter_is_refused():
    data = some_filter().to_bytes()
    with pytest.raises(CorruptStream, match="cut off"):
        PostFilter.from_bytes(b"")
    with pytest.raises(CorruptStream, match="cut off"):
        PostFilter.from_bytes(b"\x81")  # no number ends so
    with pytest.raises(CorruptStream, match="more follows"):
        PostFilter.from_bytes(data + b"\0")
    with pytest.raises(CorruptStream, match="more follows"):
        PostFilter.from_bytes(data + b"\1")
    with pytest.raises(CorruptStream, match="too long"):
        PostFilter.from_bytes(bytes(40) + b"\1")


def test_least_squares_find_the_filter_that_was_applied():
    drawn = picture()
    true = some_filter()
    fit = Fit()
    fit.add(drawn, true.apply(drawn))
    assert fit.solve(EXACT, pixels(drawn)) == true


def test_regions_add_up_to_the_picture():
    """To the same filter, although the borders of regions have no neighbours."""
    drawn, true = picture(), some_filter()
    original = true.apply(drawn)
    parts = [Fit(), Fit()]
    for part, rows in zip(parts, (slice(0, 80), slice(80, None)), strict=True):
        region = drawn.cut(rows, slice(None))
        part.add(region, true.apply(region))
    assert Fit.of(parts).solve(EXACT, pixels(drawn)) == true
    whole = Fit()
    whole.add(drawn, original)
    # half of the picture seen counts as if all of it were so
    half = Fit()
    half.add(drawn.cut(slice(80), slice(None)), original[:, :80])
    weight = 30.0
    lengths = [len(f.solve(weight, pixels(drawn)).to_bytes()) for f in (half, whole)]
    assert lengths[0] == pytest.approx(lengths[1], abs=4)


def test_what_gains_less_than_its_bits_is_left_out():
    drawn = picture()
    fit = Fit()
    fit.add(drawn, some_filter().apply(drawn))
    sizes = [len(fit.solve(weight, pixels(drawn)).to_bytes()) for weight in (EXACT, 100, 1, 0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]
    assert fit.solve(0.0, pixels(drawn)).idle


def test_terms_that_are_the_same_do_no_harm():
    """A picture of one colour: differences are zero, colours are constants."""
    drawn = flat()
    fit = Fit()
    redder = drawn.x_hat + torch.tensor([0.01, 0, -0.01])[:, None, None]
    fit.add(drawn, redder)
    found = fit.solve(EXACT, 64 * 64)
    assert (found.apply(drawn) - redder).abs().max() < 1e-3


def test_coefficients_that_a_file_cannot_hold_are_not_chosen():
    """Contrast of a few rounding errors, and an error that only a huge multiple of it explains."""
    drawn = flat()
    drawn.x_hat[:, ::2] += 2e-6
    error = torch.zeros_like(drawn.x_hat)
    error[:, ::2] = 0.9
    fit = Fit(planes=1)
    fit.add(drawn, drawn.x_hat + error)
    found = fit.solve(EXACT, 64 * 64)
    assert PostFilter.from_bytes(found.to_bytes()) == found


def test_a_part_with_its_surroundings_is_corrected_as_in_the_whole():
    drawn, correction = picture(120, 140), some_filter()
    whole = correction.apply(drawn)
    part = correction.apply(drawn.cut(slice(20, 110), slice(30, 120)))
    inner = slice(AROUND, -AROUND)
    expected = whole[:, 20:110, 30:120][:, inner, inner]
    assert torch.allclose(part[:, inner, inner], expected, atol=1e-5)


def test_bands_of_rows_are_corrected_as_the_whole(monkeypatch):
    drawn, correction = picture(170, 40), some_filter()
    whole = correction.apply(drawn)
    monkeypatch.setattr(post_filter, "BAND", 60)
    assert torch.allclose(correction.apply(drawn), whole, atol=1e-5)


def test_gray_pictures_spend_nothing_on_colours(codec):
    image = Image.fromarray(photo_pixels(128, 128)).convert("L")
    chunk = bitstream.read(codec.encode(image, 90)).chunks["filter"]
    brightness, *colours = PostFilter.from_bytes(chunk).multiples
    assert any(brightness)
    assert not any(map(any, colours))


@pytest.mark.parametrize("tile", [0, 8])
def test_filtered_picture_is_nearer_to_the_original(codec, tile, monkeypatch):
    monkeypatch.setattr(tiling, "REGION", 8)  # of several regions of a tile, some
    image = read_image(Image.fromarray(photo_pixels(320, 256)))
    plain, filtered = (codec.encode(image, 90, tile=tile, post_filter=on) for on in (False, True))
    assert "filter" not in bitstream.read(plain).chunks
    assert bitstream.read(filtered).tiles == bitstream.read(plain).tiles
    errors = [
        np.mean((codec.decode_picture(data).pixels - image.pixels.astype(float)) ** 2)
        for data in (plain, filtered)
    ]
    assert errors[1] < errors[0]
    assert len(filtered) - len(plain) < 120


def test_damaged_filter_in_a_sound_file_is_named(codec):
    file = bitstream.read(codec.encode(Image.fromarray(photo_pixels(64, 64)), 50))
    forged = dataclasses.replace(file, chunks={"filter": b"\x81"})
    for read in (codec.decode, codec.verify):
        with pytest.raises(CorruptStream, match="filter is cut off"):
            read(bitstream.write(forged))


def test_idle_filter_is_one():
    drawn = picture(32, 32)
    assert IDLE.idle
    assert torch.equal(IDLE.apply(drawn), drawn.x_hat)
