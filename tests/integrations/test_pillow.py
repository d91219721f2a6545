"""``Image.open("x.mbic")`` and ``image.save("x.mbic")``, with the shipped weights."""

from __future__ import annotations

import io

import numpy as np
import pytest
from conftest import photo_pixels
from PIL import Image, UnidentifiedImageError

import mambaic


def photo(width, height, mode="RGB"):
    image = Image.fromarray(photo_pixels(height, width)).convert(mode)
    if mode.endswith("A"):
        image.putalpha(photo(width, height, "L"))
    return image


@pytest.fixture(scope="module")
def saved():
    """Bytes of a photograph with a description in its EXIF."""
    exif = Image.Exif()
    exif[0x010E] = "a picture"
    file = io.BytesIO()
    image = photo(90, 50)
    image.info["exif"] = exif.tobytes()
    image.save(file, "MBIC", quality=30)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
def test_mode_and_size_are_known_before_pixels(tmp_path, mode):
    path = tmp_path / "x.mbic"
    image = photo(70, 40, mode)
    image.save(path, quality=80)
    with Image.open(path) as opened:
        assert (opened.format, opened.mode, opened.size) == ("MBIC", mode, (70, 40))
        difference = np.asarray(opened).astype(int) - np.asarray(image)
    assert np.sqrt(np.mean(np.square(difference))) < 8
    if mode.endswith("A"):
        assert not difference[..., -1].any()


def test_the_pixels_are_the_codecs(saved):
    opened, decoded = Image.open(io.BytesIO(saved)), mambaic.decode(saved)
    assert opened.tobytes() == decoded.tobytes()
    assert opened.tobytes() == decoded.tobytes()  # a second load changes nothing


def test_metadata_are_there_before_pixels(saved):
    assert Image.open(io.BytesIO(saved)).getexif()[0x010E] == "a picture"


def test_options_are_the_codecs():
    image = photo(64, 64)
    image.info["icc_profile"] = b"x" * 500
    file = io.BytesIO()
    image.save(file, "MBIC", quality=90, strip=True, refine=30)
    assert file.getvalue() == mambaic.load("s").encode(image, 90, strip=True, refine=30)
    assert file.getvalue() != mambaic.load("s").encode(image, 90, strip=True)


@pytest.mark.parametrize("cut", [20, -1])
def test_damage_is_noticed(saved, cut):
    with pytest.raises(OSError, match="ends"):
        Image.open(io.BytesIO(saved[:cut])).load()


def test_other_formats_are_left_to_their_plugins():
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(b"no picture at all, only words"))


def test_pillows_limit_of_pixels_holds(saved, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Image.DecompressionBombError, match="90x50"):
        Image.open(io.BytesIO(saved))
