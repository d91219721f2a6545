"""Pictures that codecs trip over: what comes back is what docs/reliability.md says."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import PIL
import pytest
from conftest import photo_pixels
from PIL import Image, ImageCms

from mambaic.codec import Codec
from mambaic.errors import ImageError
from mambaic.imaging.image import read_image


def photo(width=80, height=60, mode="RGB"):
    return Image.fromarray(photo_pixels(height, width)).convert(mode)


def saved(image, fmt, **options):
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def codec(unit_model):
    return Codec(unit_model)


def with_alpha(image):
    alpha = np.arange(image.width * image.height, dtype=np.uint8).reshape(image.height, -1)
    image.putalpha(Image.fromarray(alpha))
    return image


def key_colour_png(mode="RGB"):
    image = photo(mode=mode)
    return saved(image, "PNG", transparency=image.getpixel((3, 4)))


@pytest.mark.parametrize(
    ("data", "mode"),
    [
        pytest.param(saved(photo(mode="L"), "PNG"), "L", id="gray"),
        pytest.param(saved(photo(mode="L"), "JPEG"), "L", id="gray-jpeg"),
        pytest.param(saved(photo(mode="1"), "PNG"), "L", id="1-bit"),
        pytest.param(saved(photo(mode="P"), "PNG"), "RGB", id="palette"),
        pytest.param(key_colour_png("P"), "RGBA", id="palette-index"),
        pytest.param(saved(photo(mode="P"), "BMP"), "RGB", id="palette-bmp"),
        pytest.param(saved(with_alpha(photo()), "PNG"), "RGBA", id="alpha"),
        pytest.param(saved(with_alpha(photo(mode="L")), "PNG"), "LA", id="gray-alpha"),
        pytest.param(saved(with_alpha(photo()), "WEBP", lossless=True), "RGBA", id="webp"),
        pytest.param(key_colour_png(), "RGBA", id="key-colour"),
        pytest.param(saved(photo(mode="CMYK"), "JPEG"), "RGB", id="cmyk-jpeg"),
        pytest.param(saved(photo(mode="CMYK"), "TIFF"), "RGB", id="cmyk-tiff"),
        pytest.param(
            saved(photo(mode="YCbCr"), "TIFF"),
            "RGB",
            id="ycbcr-tiff",
            marks=pytest.mark.skipif(
                int(PIL.__version__.split(".")[0]) < 13,
                reason="Pillow cannot read the YCbCr TIFFs that it writes (its issue 9770)",
            ),
        ),
        pytest.param(saved(photo(), "JPEG", progressive=True), "RGB", id="progressive"),
        pytest.param(saved(photo(), "PPM"), "RGB", id="ppm"),
        pytest.param(saved(photo(), "PNG") + b"garbage" * 9, "RGB", id="trailing-garbage"),
    ],
)
def test_kinds_of_pictures(codec, data, mode):
    source = Image.open(io.BytesIO(data))
    decoded = codec.decode(codec.encode(read_image(data), 90))
    assert decoded.mode == mode
    assert decoded.size == source.size
    if mode.endswith("A"):
        expected = source.convert("RGBA").getchannel("A")
        assert decoded.getchannel("A").tobytes() == expected.tobytes()


@pytest.mark.parametrize("fmt", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_give_their_first_frame_and_say_so(fmt):
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "blue")]
    data = saved(frames[0], fmt, save_all=True, append_images=frames[1:], **LOSSLESS.get(fmt, {}))
    picture = read_image(data)
    assert np.abs(picture.pixels.astype(int) - [255, 0, 0]).max() <= 1
    assert any("first of 3" in note for note in picture.notes)


LOSSLESS = {"WEBP": {"lossless": True}}


def png(width, height, depth, rows):
    """A PNG of RGB rows, whatever its header claims."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def sixteen_bit_png():
    """RGB of 16 bits a channel, which Pillow reads but does not write."""
    values = np.linspace(0, 65535, 16 * 16 * 3).astype(">u2").reshape(16, 48)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    return png(16, 16, 16, rows), values.reshape(16, 16, 3)


def test_sixteen_bit_colour_is_reduced_by_value_and_says_so():
    data, values = sixteen_bit_png()
    picture = read_image(data)
    assert np.abs(picture.pixels - values / 257.0).max() <= 1.0
    assert any("8 bits" in note for note in picture.notes)


def test_profile_exif_and_xmp_survive_and_strip_removes_them(codec):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "maker"
    data = saved(photo(), "JPEG", icc_profile=profile, exif=exif, xmp=b"<x:xmpmeta/>")
    decoded = codec.decode(codec.encode(read_image(data)))
    assert decoded.info["icc_profile"] == profile
    assert decoded.getexif()[0x010F] == "maker"
    assert decoded.info["xmp"] == b"<x:xmpmeta/>"
    plain = codec.decode(codec.encode(read_image(data), strip=True))
    assert not {"icc_profile", "exif", "xmp"} & set(plain.info)


def test_nonsense_profile_is_dropped_with_a_note():
    picture = read_image(saved(photo(), "PNG", icc_profile=b"nonsense"))
    assert picture.icc == b""
    assert any("profile" in note for note in picture.notes)


def test_layout_of_a_tiff_is_not_carried_as_exif():
    assert read_image(saved(photo(), "TIFF")).exif == b""


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_right_after_a_round_trip(codec, orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(photo(64, 48), "PNG", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    picture = read_image(data)
    assert np.array_equal(picture.pixels, np.asarray(upright))
    assert codec.decode(codec.encode(picture)).size == upright.size


@pytest.mark.parametrize("size", [(1, 1), (1, 257), (301, 1), (2, 2), (3, 5), (1500, 9), (63, 65)])
def test_sizes(codec, size):
    assert codec.decode(codec.encode(photo(*size), 30)).size == size


def test_longest_side(codec):
    """65,535 pixels along a side, tiled and in bounded memory."""
    longest = Image.new("RGB", (65535, 3), "teal")
    decoded = codec.decode(codec.encode(longest, 50, tile=64, effort=1))
    assert decoded.size == (65535, 3)
    with pytest.raises(ImageError, match="65535"):
        codec.encode(Image.new("L", (65536, 1)))


@pytest.mark.parametrize("kind", ["black", "white", "noise", "checker", "bars"])
def test_extreme_content(codec, kind):
    """Latents may leave every table's range: decoding must still give the encoder's symbols."""
    rng = np.random.default_rng(0)
    pixels = np.zeros((96, 96, 3), dtype=np.uint8)
    if kind == "white":
        pixels += 255
    elif kind == "noise":
        pixels = rng.integers(0, 256, pixels.shape, dtype=np.uint8)
    elif kind == "checker":
        pixels[(np.indices((96, 96)).sum(0) % 2) == 0] = (255, 0, 255)
    elif kind == "bars":
        pixels[:, ::7] = (255, 255, 0)
    decoded = np.asarray(codec.decode(codec.encode(Image.fromarray(pixels), 100)))
    assert decoded.shape == pixels.shape


def truncated(data, share):
    return data[: int(len(data) * share)]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"just text", id="text"),
        pytest.param(truncated(saved(photo(200, 200), "PNG"), 0.5), id="cut-png"),
        pytest.param(truncated(saved(photo(200, 200), "JPEG"), 0.6), id="cut-jpeg"),
        pytest.param(saved(photo(), "PNG").replace(b"IDAT", b"IDAX"), id="no-data"),
    ],
)
def test_broken_files_are_refused(data):
    with pytest.raises(ImageError):
        read_image(data)


def test_claims_of_size_are_refused_before_memory_is_taken():
    data = png(65500, 65500, 8, b"")
    with pytest.raises(ImageError, match="max-pixels"):
        read_image(data)
    with pytest.raises(ImageError, match="max-pixels"):
        read_image(saved(Image.new("L", (300, 200)), "PNG"), max_pixels=59_999)
    limit = Image.MAX_IMAGE_PIXELS
    assert limit is not None  # Pillow's own limit is as it was
