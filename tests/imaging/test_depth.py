"""Deep numbers become 8 bits by the range that the note names, never black or white alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import photo_pixels
from picture_bytes import png, tiff
from PIL import Image

from mambaic.imaging.image import read_image


def ramp(low, high, dtype):
    """(32, 48) from ``low`` to ``high``."""
    return np.linspace(low, high, 32 * 48).astype(dtype).reshape(32, 48)


def close(pixels, expected):
    """Gray, and within rounding of what is expected."""
    assert (pixels == pixels[..., :1]).all()
    return np.abs(pixels[..., 0] - np.clip(expected, 0, 255)).max() <= 0.51


@pytest.mark.parametrize(
    ("low", "high", "dtype", "black", "white"),
    [
        pytest.param(0, 1, "f4", 0, 1, id="0-to-1"),
        pytest.param(-0.04, 1.06, "f4", 0, 1, id="overshoot"),
        pytest.param(0.1, 0.4, "f4", 0, 1, id="dark"),
        pytest.param(0, 0.001, "f4", 0, 0.001, id="tiny"),
        pytest.param(0, 254, "f4", 0, 255, id="0-to-255"),
        pytest.param(0, 90, "f4", 0, 90, id="percent"),
        pytest.param(0, 3000, "f4", 0, 3000, id="heights"),
        pytest.param(-500, 20, "f4", -500, 20, id="negative"),
        pytest.param(-1, 1, "f4", -1, 1, id="signed-1"),
        pytest.param(0, 65000, "f4", 0, 65535, id="0-to-65535"),
        pytest.param(-5000, 5000, "i2", -5000, 5000, id="int16"),
        pytest.param(-7, 70000, "i4", -7, 70000, id="int32"),
        pytest.param(0, 250, "i4", 0, 255, id="int32-of-8-bits"),
        pytest.param(0, 2**32 - 1, "u4", 0, 2**32 - 1, id="uint32"),
        pytest.param(-128, 127, "i1", -128, 127, id="int8"),
    ],
)  # fmt: skip
def test_range_of_numbers(low, high, dtype, black, white):
    values = ramp(low, high, dtype)
    picture = read_image(tiff(values))
    assert picture.gray
    assert close(picture.pixels, (values.astype(float) - black) * 255 / (white - black))
    (note,) = picture.notes
    assert note == f"reduced to 8 bits a channel: {black:.6g} became black and {white:.6g} white"


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan, -3.4028235e38, 1e35])
def test_numbers_that_are_none_do_not_move_the_range(odd):
    values = ramp(0, 1, "f4")
    values[3, 4] = odd
    picture = read_image(tiff(values))
    assert picture.pixels[3, 4, 0] == (255 if odd == math.inf else 0)
    values[3, 4] = picture.pixels[3, 4, 0] / 255
    assert close(picture.pixels, values * 255)


def test_the_number_for_no_data_does_not_move_the_range():
    values = ramp(200, 3000, "f4")
    values[5:9] = -9999
    seen = values != -9999
    pixels = read_image(tiff(values, extra=((42113, b"-9999\0"),))).pixels[..., 0]
    low, high = values[seen].min(), values[seen].max()
    assert np.abs(pixels - (values - low) * 255 / (high - low))[seen].max() <= 0.51
    assert not pixels[~seen].any()


@pytest.mark.parametrize(
    ("value", "level"), [(0.0, 0), (0.5, 128), (7000.0, 128), (-3.0, 128), (math.nan, 0)]
)
def test_one_number_alone(value, level):
    picture = read_image(tiff(np.full((8, 8), value, "f4")))
    assert (picture.pixels == level).all()


def test_nominal_range_of_a_file_holds_for_dark_pictures_too():
    """16-bit pictures are reduced by value, however dark; so are those of 12 bits in 16."""
    values = ramp(0, 9000, "u2")
    for data in (png(values), tiff(values)):
        picture = read_image(data)
        assert close(picture.pixels, values / 257)
        assert picture.notes == ("reduced to 8 bits a channel",)


def test_white_is_zero_of_16_bits():
    values = ramp(0, 65535, "u2")
    assert close(read_image(tiff(values, photometric=0)).pixels, 255 - values / 257)


@pytest.mark.parametrize("layout", [{}, {"planar": True}, {"tile": 16}, {"big": True},
                                    {"tile": 16, "planar": True, "big": True}],
                         ids=["plain", "planar", "tiled", "big", "all"])  # fmt: skip
def test_colours_of_16_bits_in_any_layout(layout):
    values = photo_pixels(40, 56).astype(np.uint16) * 256 + 77
    pixels = read_image(tiff(values, **layout)).pixels
    assert np.abs(pixels - values / 257).max() <= 1


@pytest.mark.parametrize("mode", ["I", "F", "I;16"])
def test_pillow_images_of_one_deep_channel(mode):
    values = ramp(0, 65000, {"I": "i4", "F": "f4", "I;16": "u2"}[mode])
    image = Image.fromarray(values)
    assert image.mode == mode
    picture = read_image(image)
    assert close(picture.pixels, values / 257)
    assert "8 bits" in picture.notes[0]


def test_pillow_image_of_negative_integers():
    values = ramp(-100, 100, "i4")
    assert close(read_image(Image.fromarray(values)).pixels, (values + 100.0) * 255 / 200)
