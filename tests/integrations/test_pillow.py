"""``Image.open("x.mbic")`` and ``image.save("x.mbic")``, with the shipped weights."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
from conftest import photo_pixels
from metadata_samples import block
from PIL import Image, ImageCms, UnidentifiedImageError

import mambaic
from mambaic.imaging.tiff_directory import Field

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF = block({0x010F: Field(2, b"the maker\0"), 0x9C9B: Field(1, b"t\0i\0\0\0")})


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
    image.save(path, quality=80, tune=0.0)
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
    image.save(file, "MBIC", quality=90, strip=True, effort=1)
    assert file.getvalue() == mambaic.load("s").encode(image, 90, strip=True, effort=1)
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


# -- Pillow's conventions ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda i: pickle.loads(pickle.dumps(i))]
)
@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_copies_have_the_pixels_and_the_metadata(mode, again):
    file = io.BytesIO()
    photo(40, 30, mode).save(file, "MBIC", xmp=b"<x/>")
    expected = Image.open(file).tobytes()
    other = again(Image.open(file))
    assert (other.mode, other.size, other.info["xmp"]) == (mode, (40, 30), b"<x/>")
    assert other.tobytes() == np.asarray(other).tobytes() == expected


def test_pixels_can_be_changed_and_shrunk(saved):
    image = Image.open(io.BytesIO(saved))
    image.putpixel((3, 4), (1, 2, 3))
    assert image.getpixel((3, 4)) == (1, 2, 3)
    image.thumbnail((45, 45))
    assert image.size == (45, 25)
    assert Image.open(io.BytesIO(saved)).draft("L", (10, 10)) is None


def test_files_are_closed_after_loading_and_verifying(tmp_path, saved):
    path = tmp_path / "x.mbic"
    path.write_bytes(saved)
    image = Image.open(path)
    file = image.fp
    image.load()
    assert file.closed
    image = Image.open(path)
    file = image.fp
    image.verify()
    assert file.closed
    with path.open("rb") as given:
        Image.open(given).load()
        assert not given.closed
    with Image.open(path) as image:
        image.load()
    image.close()
    with pytest.raises(ValueError, match="closed image"):
        image.load()
    with Image.open(path) as image, pytest.raises(EOFError):
        image.seek(1)


class Unseekable(io.RawIOBase):
    """A pipe: it can only be written to."""

    def __init__(self):
        super().__init__()
        self.data = b""

    def writable(self):
        return True

    def write(self, data):
        self.data += bytes(data)
        return len(data)


def test_images_are_saved_to_anything_that_can_be_written_to():
    pipe, file = Unseekable(), io.BytesIO()
    image = photo(40, 30)
    image.save(pipe, "MBIC")
    image.save(file, "MBIC")
    assert pipe.data == file.getvalue()


OPTIONS = {"icc_profile": PROFILE, "xmp": b"<x:option/>", "exif": EXIF}


def saved_info(image, **options):
    file = io.BytesIO()
    image.save(file, "MBIC", quality=10, **options)
    info = Image.open(file).info
    return {key: info[key] for key in OPTIONS if key in info}


def test_metadata_are_those_of_options_or_of_the_image():
    image = photo(40, 30)
    assert saved_info(image, **OPTIONS) == OPTIONS
    image.info = {**OPTIONS, "exif": block({0x010F: Field(2, b"other maker\0")})}
    assert saved_info(image) == image.info
    assert saved_info(image, exif=EXIF) == OPTIONS
    assert saved_info(image, exif=None, xmp="", icc_profile=b"") == {}
    assert saved_info(image, strip=True, exif=EXIF) == {}


def test_an_exif_object_is_an_option():
    exif = Image.Exif()
    exif[0x010F] = "maker"
    exif[0x0112] = 6
    file = io.BytesIO()
    photo(40, 30).save(file, "MBIC", exif=exif)
    back = Image.open(file)
    assert back.size == (30, 40)
    assert (back.getexif()[0x010F], back.getexif()[0x0112]) == ("maker", 1)
    exif[0x010F] = object()
    with pytest.raises(OSError, match="EXIF cannot be written"):
        photo(40, 30).save(io.BytesIO(), "MBIC", exif=exif)


@pytest.mark.parametrize(("mode", "straight"), [("RGBa", "RGBA"), ("La", "LA")])
def test_premultiplied_alpha_is_kept(mode, straight):
    image = photo(40, 30, straight)
    file, expected = io.BytesIO(), image.convert(mode).convert(straight)
    image.convert(mode).save(file, "MBIC", quality=90)
    back = Image.open(file)
    assert back.mode == straight
    assert back.getchannel("A").tobytes() == expected.getchannel("A").tobytes()


def test_errors_are_those_of_pillows_writers(tmp_path):
    image, path = photo(40, 30), tmp_path / "x.mbic"
    with pytest.raises(ValueError, match="quality"):
        image.save(path, quality=101)
    with pytest.raises(OSError, match="sides must be"):
        Image.new("L", (65536, 1)).save(path)
    with pytest.raises(OSError, match="nowhere"):
        image.save(path, model=str(tmp_path / "nowhere"))
    assert not path.exists()
