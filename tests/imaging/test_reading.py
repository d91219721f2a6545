"""What ``read_image`` takes, and what it leaves as it was."""

from __future__ import annotations

import importlib.util
import io
import shutil
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import photo_pixels
from picture_bytes import JXL_8, png_chunk, saved, tiff
from PIL import Image

from mambaic.errors import ImageError
from mambaic.imaging.image import read_image

FRAMES = [Image.new("RGB", (32, 24), colour) for colour in ("red", "lime", "blue")]


def sequence(fmt):
    options = {"lossless": True} if fmt == "WEBP" else {}
    return saved(FRAMES[0], fmt, save_all=True, append_images=FRAMES[1:], **options)


@pytest.mark.parametrize("fmt", ["GIF", "TIFF", "WEBP", "PNG", "MPO"])
def test_caller_s_image_gives_the_frame_it_stands_at(fmt):
    with Image.open(io.BytesIO(sequence(fmt))) as image:
        for number in (0, 1, 2, 1):
            image.seek(number)
            picture = read_image(image)
            expected = np.array(FRAMES[number].getpixel((0, 0)))
            assert np.abs(picture.pixels.astype(int) - expected).max() <= 3
            assert image.tell() == number
            assert picture.notes == ()


def test_file_object_and_path_give_the_first_frame_with_a_note(tmp_path):
    (tmp_path / "x.gif").write_bytes(sequence("GIF"))
    with (tmp_path / "x.gif").open("rb") as file:
        for source in (file, tmp_path / "x.gif", str(tmp_path / "x.gif")):
            picture = read_image(source)
            assert np.array_equal(picture.pixels[0, 0], [255, 0, 0])
            assert "first of 3" in picture.notes[0]


class Pipe(io.RawIOBase):
    """Bytes that cannot be sought."""

    def __init__(self, data):
        self._file = io.BytesIO(data)

    def readable(self):
        return True

    def read(self, size=-1):
        return self._file.read(size)


def test_bytes_of_any_kind():
    pixels = photo_pixels(24, 40)
    data = saved(Image.fromarray(pixels), "PNG")
    for source in (data, bytearray(data), memoryview(data), io.BytesIO(data), Pipe(data)):
        assert np.array_equal(read_image(source).pixels, pixels)


def test_arrays():
    pixels = photo_pixels(24, 40)
    alpha = np.tile(np.arange(40, dtype=np.uint8), (24, 1)) + 1
    assert np.array_equal(read_image(pixels).pixels, pixels)
    gray = read_image(pixels[..., 1])
    assert gray.gray
    assert np.array_equal(gray.pixels[..., 2], pixels[..., 1])
    both = read_image(np.dstack([pixels, alpha]))
    assert np.array_equal(both.pixels, pixels)
    assert np.array_equal(both.alpha, alpha)
    assert np.array_equal(read_image(pixels[::-2, ::3]).pixels, pixels[::-2, ::3])


class Tensor:
    """Stands for any array of another library."""


@pytest.mark.parametrize(
    "source",
    [
        None, 3, [[1, 2]], Tensor(), object(), np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint16), np.zeros((4, 4), bool), np.zeros((3, 8, 9), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8), np.zeros(9, np.uint8), np.zeros((0, 4), np.uint8),
        np.zeros((4, 4, 1), np.uint8),
    ],
    ids=lambda source: f"{type(source).__name__}-{getattr(source, 'shape', '')}",
)  # fmt: skip
def test_what_is_no_picture_is_told_what_one_is(source):
    with pytest.raises(ImageError, match="expected a Pillow image, an array"):
        read_image(source)


def test_cut_and_closed_pillow_images():
    data = saved(Image.fromarray(photo_pixels(200, 200)), "PNG")
    with pytest.raises(ImageError, match="unreadable"):
        read_image(Image.open(io.BytesIO(data[: len(data) // 2])))
    closed = Image.open(io.BytesIO(data))
    closed.close()
    with pytest.raises(ImageError, match="unreadable"):
        read_image(closed)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"])
def test_every_opaque_mode_of_pillow_is_read(mode):
    image = Image.new("RGB", (9, 7), (200, 100, 50))
    if mode == "LAB":
        image = Image.merge("LAB", [Image.new("L", (9, 7), v) for v in (140, 150, 160)])
    picture = read_image(image if mode == "LAB" else image.convert(mode))
    assert picture.pixels.shape == (7, 9, 3)
    assert picture.gray == (mode in ("1", "L"))


def test_other_modes_are_refused_by_name(monkeypatch):
    image = Image.new("RGB", (9, 7))
    monkeypatch.setattr(image, "_mode", "BGR;15")
    with pytest.raises(ImageError, match="mode BGR;15"):
        read_image(image)


def test_pixels_that_pillow_cannot_read_are_named():
    with pytest.raises(ImageError, match="TIFF of a kind of pixels"):
        read_image(tiff(np.zeros((8, 8, 3), np.float32)))


@pytest.mark.filterwarnings("always")
def test_filters_of_warnings_are_as_they_were():
    data = saved(Image.fromarray(photo_pixels(64, 64)), "PNG")
    before = list(warnings.filters)
    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: read_image(data).size, range(60)))
    assert warnings.filters == before


def test_tiff_beyond_pillows_limit(monkeypatch):
    """Pillow checks TIFFs twice, and warns of half its limit."""
    pixels = photo_pixels(600, 20)
    data = {
        "plain": tiff(pixels),
        "lzw": saved(Image.fromarray(pixels), "TIFF", compression="tiff_lzw"),
    }
    for limit in (5500, 11000):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        for file in data.values():
            assert np.array_equal(read_image(file).pixels, pixels)
        assert limit == Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageError, match="max-pixels"):
        read_image(data["plain"], max_pixels=11999)


needs_jxl = pytest.mark.skipif(
    importlib.util.find_spec("pillow_jxl") is None, reason="needs pillow-jxl-plugin"
)


@needs_jxl
def test_jpeg_xl_is_read_where_its_plugin_is():
    assert read_image(JXL_8).pixels.shape == (8, 8, 3)


@needs_jxl
def test_size_of_a_jpeg_xl_is_checked_before_its_plugin_decodes_it():
    with pytest.raises(ImageError, match="8x8 pixels are more"):
        read_image(JXL_8, max_pixels=63)


@pytest.mark.parametrize(
    ("start", "module", "package"),
    [
        (b"\xff\x0a" + bytes(40), "pillow_jxl", "pillow-jxl-plugin"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "pillow_heif", "pillow-heif"),
    ],
)
def test_missing_plugins_are_named(monkeypatch, start, module, package):
    monkeypatch.setattr(Image, "OPEN", {k: v for k, v in Image.OPEN.items() if k != "JXL"})
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "JXL"])
    monkeypatch.setitem(sys.modules, module, None)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == module else find(name)
    )
    with pytest.raises(ImageError, match=f"pip install {package}"):
        read_image(start)


def test_claims_of_a_png_beyond_memory_are_one_line(monkeypatch):
    """Room for the pixels cannot be had."""

    def no_room(*args):
        raise MemoryError

    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 30, 20, 8, 2, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(20 * 91)))
    data = b"\x89PNG\r\n\x1a\n" + header + pixels + png_chunk(b"IEND", b"")
    assert read_image(data).size == (30, 20)
    monkeypatch.setattr("mambaic.imaging.image._rgb_pixels", no_room)
    with pytest.raises(ImageError, match="memory"):
        read_image(data)


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar", "bztar", "xztar"])
def test_archive_is_called_one(kind, tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "in" / "a.png")
    file = shutil.make_archive(str(tmp_path / "photos"), kind, tmp_path / "in")
    with pytest.raises(ImageError, match="archive, not an image: unpack it"):
        read_image(file)
