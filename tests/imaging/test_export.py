"""Decoded pictures in other formats: with the metadata that these hold, or with a word."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import photo_pixels
from metadata_samples import (
    ARTIST,
    XMP,
    block,
    camera_fields,
    numbers,
    opened,
)
from PIL import ImageCms

from mambaic.errors import OutputError
from mambaic.imaging.exif import EXIF
from mambaic.imaging.export import image_bytes
from mambaic.imaging.image import Picture, read_image, to_pil
from mambaic.imaging.output_formats import ALPHA, FORMATS, METADATA
from mambaic.imaging.tiff_directory import Field

BLOCK = block(camera_fields("big", orientation=1), "big", thumbnail=b"\xff\xd8 thumbnail \xff\xd9")
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PACKET = XMP % b""


def decoded(gray=False, **chunks):
    return to_pil(Picture(pixels=photo_pixels(48, 64), gray=gray, **chunks))


@pytest.mark.parametrize("chosen", sorted(FORMATS))
def test_metadata_survive_or_are_named(chosen):
    image = decoded(icc=PROFILE, exif=BLOCK, xmp=PACKET)
    data, notes = image_bytes(image, chosen)
    picture = read_image(data)
    if chosen != "jpg":
        assert np.array_equal(picture.pixels, np.asarray(image))
    if chosen not in METADATA:
        assert notes == [f".{chosen} does not keep icc_profile, exif, xmp"]
        assert not picture.icc + picture.exif + picture.xmp
        return
    assert notes == []
    assert (picture.icc, picture.xmp) == (PROFILE, PACKET)
    assert opened(data).getexif()[0x013B].encode("latin-1") + b"\0" == ARTIST
    if chosen == "tiff":  # all but IFD1
        kept = {k: v for k, v in camera_fields("big").items() if k != 0x0112}
        assert picture.exif == block(kept, "big")
    else:
        assert picture.exif == BLOCK


@pytest.mark.parametrize(("key", "chunk"), [("exif", "exif"), ("xmp", "xmp")])
def test_metadata_too_long_for_a_jpeg_are_refused_with_advice(key, chunk):
    fields = {**camera_fields(orientation=1), EXIF: {0x927C: Field(7, b"x" * 90_000)}}
    long = block(fields) if key == "exif" else PACKET + b" " * 90_000
    image = decoded(**{chunk: long})
    with pytest.raises(OutputError, match=r"does not fit into a \.jpg.*--strip"):
        image_bytes(image, "jpg")
    for chosen in METADATA - {"jpg"}:
        assert getattr(read_image(image_bytes(image, chosen)[0]), chunk)[6:] == (
            long[6:] if chosen != "tiff" or key == "xmp" else read_tiff_block(fields)[6:]
        )
    image.info.clear()
    assert read_image(image_bytes(image, "jpg")[0]).exif == b""


def read_tiff_block(fields):
    return block({tag: field for tag, field in fields.items() if tag != 0x0112})


def test_a_jpeg_holds_as_much_as_a_segment():
    def notes(size):
        return block({0x010F: Field(2, b"m" * size)})

    overhead = len(notes(10)) - 10
    fitting = notes(65_532 - overhead)
    assert read_image(image_bytes(decoded(exif=fitting), "jpg")[0]).exif == fitting
    with pytest.raises(OutputError, match="65533"):
        image_bytes(decoded(exif=notes(65_534 - overhead)), "jpg")


@pytest.mark.parametrize("chosen", sorted(METADATA))
@pytest.mark.parametrize("gray", [False, True])
def test_a_profile_of_other_channels_is_left_out_with_a_note(chosen, gray):
    other = bytearray(PROFILE)
    other[16:20] = b"CMYK"
    for misfit in (bytes(other), PROFILE if gray else b"nonsense"):
        data, notes = image_bytes(decoded(gray, icc=misfit), chosen)
        assert "icc_profile" not in opened(data).info
        assert notes == ["the colour profile is for other channels than these and is left out"]


def test_alpha_is_kept_or_refused():
    alpha = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)
    image = decoded(alpha=alpha, exif=BLOCK)
    for chosen in FORMATS:
        if chosen in ALPHA:
            back = read_image(image_bytes(image, chosen)[0])
            assert np.array_equal(back.alpha, alpha)
        else:
            with pytest.raises(OutputError, match="alpha"):
                image_bytes(image, chosen)


def test_broken_exif_does_not_make_a_tiff_unreadable():
    exif = block({0x010F: Field(2, b"m\0"), EXIF: {0x829A: numbers(5, 1, 2)}})
    at = exif.index(b"\x9a\x82")
    broken = exif[: at + 2] + b"\x0c\0\xff\xff\xff\x1f" + exif[at + 8 :]
    for chosen in sorted(METADATA):
        data, _ = image_bytes(decoded(exif=broken), chosen)
        with opened(data) as image:
            image.load()


def test_an_image_is_left_as_it_was():
    image = decoded(icc=PROFILE, exif=BLOCK, xmp=PACKET)
    info, pixels = dict(image.info), image.tobytes()
    for chosen in FORMATS:
        image_bytes(image, chosen)
    assert (image.info, image.tobytes()) == (info, pixels)
