"""Alpha of colour keys is kept, gray stays gray, hidden colours cost little."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from conftest import photo_pixels
from picture_bytes import png, saved
from PIL import Image

from mambaic.imaging.image import read_image
from mambaic.imaging.transparency import fill_hidden


def keyed(array, key, bits=None):
    return png(array, bits=bits, between=((b"tRNS", struct.pack(f">{len(key)}H", *key)),))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_gray_colour_key(bits):
    top = 2**bits - 1
    array = (np.arange(24 * 40).reshape(24, 40) % (top + 1)).astype("u2" if bits == 16 else "u1")
    key = int(array[5, 7])
    picture = read_image(keyed(array, (key,), bits))
    assert picture.gray
    assert np.array_equal(picture.alpha, np.where(array == key, 0, 255))
    seen = array != key
    assert np.abs(picture.pixels[..., 0] - array * (255 / top))[seen].max() <= 0.51


@pytest.mark.parametrize("bits", [8, 16])
def test_rgb_colour_key_is_compared_in_full(bits):
    """Of 16 bits, colours that differ from the key in lower halves alone are not hidden."""
    array = photo_pixels(24, 40).astype("u2" if bits == 16 else "u1")
    if bits == 16:
        array = array * 256 + np.arange(40, dtype=np.uint16)[None, :, None]
        array[3] = array[5, 7] + np.arange(40, dtype=np.uint16)[:, None]
    else:
        array[3] = array[5, 7]
    key = array[5, 7]
    picture = read_image(keyed(array, tuple(int(v) for v in key)))
    hidden = (array == key).all(axis=2)
    assert hidden.sum() < array[..., 0].size / 2
    assert np.array_equal(picture.alpha == 0, hidden)
    assert not picture.gray


def test_key_of_16_bits_turns_with_the_picture():
    array = photo_pixels(24, 40).astype(np.uint16) * 257
    array[:6, :10] = 4321
    exif = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
    key = struct.pack(">3H", 4321, 4321, 4321)
    picture = read_image(png(array, between=((b"tRNS", key), (b"eXIf", exif))))
    assert np.array_equal(picture.alpha == 0, np.rot90((array == 4321).all(axis=2), -1))


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBa", "RGBA"])
def test_modes_with_alpha(mode):
    base = Image.fromarray(photo_pixels(24, 40)).convert("L" if mode in ("LA", "La") else "RGB")
    alpha = np.tile(np.linspace(40, 255, 40).astype(np.uint8), (24, 1))
    base.putalpha(Image.fromarray(alpha))
    image = base.convert("RGBA").quantize(256).convert("PA") if mode == "PA" else base.convert(mode)
    if mode == "PA":
        image.putalpha(Image.fromarray(alpha))
    picture = read_image(image)
    assert np.array_equal(picture.alpha, alpha)
    assert picture.gray == (mode in ("LA", "La"))
    bright = alpha > 200  # premultiplied colours are coarse where alpha is low
    if mode != "PA":
        expected = np.asarray(base.convert("RGB")).astype(int)
        assert np.abs(picture.pixels - expected)[bright].max() <= 2


def test_gray_with_alpha_of_16_bits_stays_gray():
    array = (np.arange(24 * 40 * 2).reshape(24, 40, 2) * 30 | 0x100).astype(np.uint16)
    picture = read_image(png(array))
    assert picture.gray
    assert np.array_equal(picture.alpha, array[..., 1] >> 8)


def test_gray_palette_is_gray():
    image = Image.fromarray(photo_pixels(24, 40)[..., 0]).convert("P")
    picture = read_image(saved(image, "PNG"))
    assert picture.gray
    assert np.array_equal(picture.pixels[..., 0], photo_pixels(24, 40)[..., 0])
    assert read_image(saved(image, "PNG", transparency=3)).gray


def disc(height, width):
    """Alpha of a disc, soft at its edge."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - height / 2, x - width / 2)
    return (np.clip(min(height, width) / 3 - distance, 0, 4) * 63.75).astype(np.uint8)


@pytest.mark.parametrize("size", [(1, 9), (7, 1), (63, 65), (300, 517), (513, 256)])
def test_hidden_colours_go_over_smoothly(size):
    pixels, alpha = photo_pixels(*size), disc(*size)
    alpha[size[0] // 2, size[1] // 2] = 255
    pixels[alpha == 0] = np.random.default_rng(0).integers(0, 256, (int((alpha == 0).sum()), 3))
    before = pixels.copy()
    assert fill_hidden(pixels, alpha)
    assert np.array_equal(pixels[alpha > 0], before[alpha > 0])
    low, high = before[alpha > 0].min(axis=0), before[alpha > 0].max(axis=0)
    assert ((pixels >= low.astype(int) - 2) & (pixels <= high.astype(int) + 2)).all()
    steps = np.abs(np.diff(pixels.astype(int), axis=1))
    inside = (alpha[:, 1:] == 0) & (alpha[:, :-1] == 0)
    assert steps[inside].max(initial=0) <= 64  # of noise, 255


def test_what_is_hidden_alone_stays():
    pixels = photo_pixels(16, 16)
    assert not fill_hidden(pixels, np.zeros((16, 16), np.uint8))
    assert np.array_equal(pixels, photo_pixels(16, 16))
    assert not fill_hidden(pixels, np.full((16, 16), 9, np.uint8))


def test_files_do_not_depend_on_flat_or_noisy_hidden_colours():
    pixels, alpha = photo_pixels(100, 70), disc(100, 70)
    hidden = alpha == 0
    noisy, flat = pixels.copy(), pixels.copy()
    noisy[hidden] = np.random.default_rng(1).integers(0, 256, (int(hidden.sum()), 3))
    flat[hidden] = 255
    seen = [read_image(np.dstack([colours, alpha])) for colours in (noisy, flat)]
    assert np.array_equal(seen[0].pixels, seen[1].pixels)
    assert all(np.array_equal(picture.alpha, alpha) for picture in seen)


def test_replaced_colours_are_told_only_where_they_differed():
    pixels, alpha = photo_pixels(24, 40), disc(24, 40)
    (note,) = read_image(np.dstack([pixels, alpha])).notes
    assert note == "colours that alpha hides were replaced"
    webp = saved(Image.fromarray(np.dstack([pixels, alpha])), "WEBP")  # its encoder's, not ours
    assert read_image(webp).notes == ()
    pixels[alpha == 0] = 255
    assert read_image(saved(Image.fromarray(np.dstack([pixels, alpha])), "PNG")).notes == ()


def test_caller_s_image_is_left_alone():
    image = Image.fromarray(np.dstack([photo_pixels(24, 40), disc(24, 40)]))
    before = image.tobytes()
    read_image(image)
    assert image.tobytes() == before
    again = Image.open(io.BytesIO(saved(image, "PNG")))
    assert again.tobytes() == before
