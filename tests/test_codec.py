"""Pictures to bytes and back, with a random ``unit`` model."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import photo_pixels
from PIL import Image

from mambaic.codec import Codec
from mambaic.container.fields import MAX_TILE_LATENTS, largest_tile
from mambaic.encoder.options import EncodeOptions
from mambaic.encoder.rate_control import Target, encode_to_target
from mambaic.errors import BitstreamError, ConfigError, ImageError, NotAnMbicFile, WrongModel
from mambaic.imaging.atomic_files import atomic_write
from mambaic.imaging.image import read_image
from mambaic.tiling import boxes as tiling


def photo(width, height, seed=0):
    return Image.fromarray(photo_pixels(height, width, seed))


@pytest.fixture(scope="module")
def codec(unit_model):
    return Codec(unit_model)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (17, 5), (64, 64), (257, 131)])
def test_any_size_comes_back(codec, width, height):
    image = photo(width, height)
    data = codec.encode(image, 70)
    decoded = codec.decode(data)
    assert decoded.size == image.size
    assert decoded.mode == "RGB"
    assert codec.decode(data).tobytes() == decoded.tobytes()


def test_gray_alpha_and_metadata_survive(codec):
    image = photo(70, 40).convert("LA")
    image.putalpha(Image.fromarray(np.arange(70 * 40, dtype=np.uint8).reshape(40, 70)))
    exif = Image.Exif()
    exif[0x010E] = "a picture"
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    picture = read_image(buffer.getvalue())
    decoded = codec.decode(codec.encode(picture))
    assert decoded.mode == "LA"
    assert decoded.getchannel("A").tobytes() == image.getchannel("A").tobytes()
    assert decoded.getexif()[0x010E] == "a picture"
    stripped = codec.decode(codec.encode(picture, strip=True))
    assert "exif" not in stripped.info


def test_orientation_is_applied_once(codec):
    image = photo(80, 48)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    decoded = codec.decode(codec.encode(read_image(buffer.getvalue())))
    assert decoded.size == (48, 80)
    assert decoded.getexif().get(0x0112, 1) == 1


def test_pictures_and_files_of_any_kind(codec, tmp_path):
    image = photo(24, 17)
    image.save(tmp_path / "x.png")
    data = codec.encode(image, 80)
    (tmp_path / "x.mbic").write_bytes(data)
    png = (tmp_path / "x.png").read_bytes()
    for source in (np.asarray(image), tmp_path / "x.png", png, io.BytesIO(png)):
        assert codec.encode(source, np.float32(80)) == data
    decoded = codec.decode(data)
    for source in (bytearray(data), tmp_path / "x.mbic", io.BytesIO(data)):
        assert codec.decode(source).tobytes() == decoded.tobytes()


@pytest.mark.parametrize("quality", ["60", None, [60], float("nan"), 101, np.zeros(3), "high"])
def test_quality_that_is_no_number_of_the_range_is_named(codec, quality):
    with pytest.raises(ConfigError, match=r"quality = .* between 0 and 100"):
        codec.encode(photo(8, 8), quality)


@pytest.mark.parametrize("source", [None, 7, [b""], io.StringIO("text"), np.zeros(4)])
def test_what_is_no_file_is_told_what_one_is(codec, source):
    with pytest.raises(NotAnMbicFile, match=r"expected the bytes of an \.mbic file, its path"):
        codec.decode(source)


def test_path_of_no_file_is_named(codec, tmp_path):
    with pytest.raises(ImageError, match=r"nowhere\.mbic: No such file"):
        codec.decode(tmp_path / "nowhere.mbic")


def test_sixteen_bits_are_scaled_by_value():
    values = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    picture = read_image(Image.fromarray(values))
    assert np.abs(picture.pixels[..., 0] - values / 257).max() <= 0.51
    assert picture.notes


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + bytes(30)])
def test_unusable_images_raise_the_typed_error(data):
    with pytest.raises(ImageError):
        read_image(data)


def test_tiles_are_as_good_as_the_whole(codec):
    """Not the same: means from less context send the trellis by other paths."""
    image = photo(512, 320)
    whole, tiled = (
        np.asarray(codec.decode(codec.encode(image, 60, tile=tile))).astype(float) - image
        for tile in (0, 12)
    )
    assert np.mean(tiled**2) < 1.05 * np.mean(whole**2)


def test_what_fits_one_tile_has_no_borders_of_tiles():
    assert tiling.default_tile(4896, 3264) == 0
    assert tiling.default_tile(65535, 256) == 0
    assert tiling.default_tile(6000, 4000) == tiling.DEFAULT_TILE
    assert largest_tile(6000, 4000, tiling.DEFAULT_TILE) <= MAX_TILE_LATENTS


@pytest.mark.parametrize("tile", [0, 16])
def test_pieces_of_the_transforms_do_not_show(codec, monkeypatch, tile):
    image = photo(400, 330)
    whole = np.asarray(codec.decode(codec.encode(image, 60, tile=tile))).astype(float)
    monkeypatch.setattr(tiling, "PIECE", 3)  # smaller than tiles, which they need not fit
    halo = codec.model.config.halo
    assert len(tiling.pieces((0, 0, 24, 28), halo)) > 2
    data = codec.encode(image, 60, tile=tile)
    pieces = np.asarray(codec.decode(data)).astype(float)
    assert pieces.shape == whole.shape
    assert np.mean((whole - pieces) ** 2) < 4.0


def test_workers_do_not_change_the_bytes(codec):
    image = photo(300, 260)
    assert codec.encode(image, 40, tile=8, workers=3) == codec.encode(image, 40, tile=8)


def test_flipped_bytes_never_decode(codec):
    data = codec.encode(photo(40, 40), 50)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(BitstreamError):
            codec.decode(bytes(damaged))


def test_other_weights_are_named(codec, private_unit_model):
    data = codec.encode(photo(40, 40), 50)
    private_unit_model.weights_id = b"othermod"
    with pytest.raises(WrongModel, match=b"othermod".hex()):
        Codec(private_unit_model).decode(data)


def test_target_size_is_met_or_refused(codec):
    image = read_image(photo(256, 192))
    middle = len(codec.encode(image, 55.0))
    data = encode_to_target(codec, image, Target("size", middle), EncodeOptions())
    assert len(data) == pytest.approx(middle, rel=0.01)
    with pytest.raises(ConfigError, match="out of reach"):
        encode_to_target(codec, image, Target("size", 10), EncodeOptions())


def test_quality_outside_its_range_is_refused(codec):
    with pytest.raises(ConfigError, match="quality"):
        codec.encode(photo(16, 16), 101)


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "out.mbic"
    atomic_write(path, b"old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Exception, match="No space left"):
        atomic_write(path, b"new", force=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_written_by_threads_follow_the_umask_and_leave_it(tmp_path):
    """A process has one umask: threads that read it by setting it would change it for good."""
    before = os.umask(0o027)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: atomic_write(tmp_path / str(i), b"x"), range(200)))
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}
    finally:
        after = os.umask(before)
    assert after == 0o027


def test_a_name_as_long_as_names_can_be(tmp_path):
    path = tmp_path / ("n" * 250 + ".mbic")
    atomic_write(path, b"x")
    assert path.read_bytes() == b"x"
