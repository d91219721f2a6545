"""What a file keeps of EXIF, XMP and ICC: their bytes, but for what no longer holds."""

from __future__ import annotations

import io

import numpy as np
import pytest
from conftest import photo_pixels
from metadata_samples import (
    ARTIST,
    ASCII,
    GAIN_MAP,
    NOTES,
    UNDEFINED,
    XMP,
    block,
    camera_fields,
    numbers,
    opened,
    saved,
    tiff,
)
from PIL import Image, ImageCms, ImageOps

from mambaic.imaging.exif import EXIF, GPS, from_tiff, into_tiff, upright
from mambaic.imaging.image import read_image
from mambaic.imaging.tiff_directory import Field, TiffReader
from mambaic.imaging.xmp import without_stale

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()  # holds the time
ORDERS = pytest.mark.parametrize("order", ["little", "big"])


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(photo_pixels(48, 64))


def differing(first, second):
    assert len(first) == len(second)
    return [at for at, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]


@ORDERS
def test_exif_keeps_every_byte_when_nothing_is_turned(photo, order):
    exif = block(camera_fields(order, orientation=1), order, thumbnail=saved(photo, "JPEG"))
    for fmt in ("JPEG", "PNG", "WEBP"):
        assert read_image(saved(photo, fmt, exif=exif)).exif == exif


@ORDERS
def test_exif_of_a_turned_picture_differs_in_orientation_and_sides_alone(photo, order):
    exif = block(camera_fields(order), order, thumbnail=saved(photo, "JPEG"))
    picture = read_image(saved(photo, "JPEG", exif=exif))
    assert picture.size == (48, 64)
    assert picture.exif == block(
        camera_fields(order, orientation=1), order, thumbnail=saved(photo, "JPEG")
    ).replace(*sides(order))
    # one byte of the orientation, 2 + 10 bytes at most of the sides
    assert len(differing(exif, picture.exif)) <= 13
    again = opened(saved(photo, "JPEG", exif=picture.exif)).getexif()
    assert again[0x0112] == 1
    assert (again.get_ifd(EXIF)[0xA002], again.get_ifd(EXIF)[0xA003]) == (48, 64)


def sides(order):
    """The two entries of sides before and after their exchange."""

    def entry(tag, kind, value):
        data = value.to_bytes(4 if kind == 4 else 2, order).ljust(4, b"\0")
        numbers_ = (tag.to_bytes(2, order), kind.to_bytes(2, order), (1).to_bytes(4, order))
        return b"".join(numbers_) + data

    before = entry(0xA002, 4, 64) + entry(0xA003, 3, 48)
    return before, entry(0xA002, 3, 48) + entry(0xA003, 4, 64)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pixels_are_turned_as_exif_says(photo, fmt, orientation):
    exif = block({0x010F: Field(ASCII, b"m\0"), 0x0112: numbers(3, orientation)})
    data = saved(photo, fmt, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(opened(data)).convert("RGB"))
    picture = read_image(data)
    assert np.array_equal(picture.pixels, expected)
    assert opened(saved(photo, "PNG", exif=picture.exif)).getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
@pytest.mark.parametrize("tag", [0x010E, 0x011A, 0x0128, 0x013B, 0x9C9B])
def test_wrong_types_in_exif_do_not_keep_a_picture_from_being_read(photo, tag, kind):
    """Pillow's writer failed on these: float in a text, text in a fraction and so on."""
    odd = Field(kind, b"\x7f\x01\x80\x3f\0\0\x80\x7f" * 4)
    exif = block({0x0112: numbers(3, 6), tag: odd, EXIF: {0x9286: odd, 0x829A: odd}})
    picture = read_image(saved(photo, "JPEG", exif=exif))
    assert picture.size == (48, 64)
    assert len(differing(exif, picture.exif)) == 1


@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0II+\0\x08\0\0\0" + b"\0" * 16],
    ids=["no-header", "no-directory", "bigtiff"],
)
def test_exif_that_no_reader_can_read_is_dropped_with_a_note(photo, exif):
    picture = read_image(saved(photo, "JPEG", exif=exif))
    assert picture.exif == b""
    assert any("EXIF is unreadable" in note for note in picture.notes)


def test_exif_that_keeps_an_avif_from_being_opened_is_dropped_with_a_note(photo):
    data = saved(photo, "AVIF", exif=block(camera_fields(orientation=1)))
    start = data.index(b"II*\0")
    picture = read_image(data[:start] + b"none" + data[start + 4 :])
    assert picture.size == photo.size
    assert picture.exif == b""
    assert any("EXIF is unreadable" in note for note in picture.notes)


def test_exif_of_the_orientation_alone_takes_no_bytes(photo):
    picture = read_image(saved(photo, "PNG", exif=block({0x0112: numbers(3, 8)})))
    assert (picture.size, picture.exif, picture.notes) == ((48, 64), b"", ())


def test_stored_sides_outside_their_entries_are_left_alone():
    fields = {0x0112: numbers(3, 6), EXIF: {0xA002: numbers(4, 1, 2), 0xA003: numbers(3, 5)}}
    exif = block(fields)
    patched, orientation = upright(exif)
    assert orientation == 6
    assert len(differing(exif, patched)) == 1  # the orientation's byte


# -- TIFF ----------------------------------------------------------------------------------------


@ORDERS
def test_a_tiffs_exif_holds_what_describes_the_picture(photo, order):
    layout = {
        700: Field(1, b"<x:xmpmeta/>" * 9),
        530: numbers(3, 2, 2, order=order),
        33723: Field(UNDEFINED, b"\x1c\x02\x78\0\x02hi"),
        34377: Field(UNDEFINED, b"8BIM" * 99),
        34675: Field(UNDEFINED, PROFILE),
    }
    fields = camera_fields(order, orientation=1)
    picture = read_image(tiff(photo, {**fields, **layout}, order))
    assert np.array_equal(picture.pixels, np.asarray(photo))
    kept = {tag: field for tag, field in fields.items() if tag != 0x0112}
    assert picture.exif == block(kept, order)
    assert picture.icc == PROFILE
    assert picture.xmp == b"<x:xmpmeta/>" * 9
    assert {"the IPTC block is not kept", "the Photoshop block is not kept"} == set(picture.notes)


@ORDERS
def test_bigtiff_gives_classic_exif(photo, order):
    extra = {0x010F: Field(ASCII, b"the maker\0"), 0x013B: Field(ASCII, ARTIST)}
    rating = {0x4746: Field(16, (5).to_bytes(8, order)), 0x4749: Field(16, b"\xff" * 8)}
    data = tiff(photo, {**extra, **rating}, order, big=True)
    # a number of eight bytes is kept where four are enough
    expected = block({**extra, 0x4746: Field(4, (5).to_bytes(4, order))}, order)
    assert from_tiff(io.BytesIO(data), TiffReader(io.BytesIO(data)).first) == expected
    if order == "little":  # Pillow reads no others
        picture = read_image(data)
        assert np.array_equal(picture.pixels, np.asarray(photo))
        assert picture.exif == expected


def test_broken_directories_of_a_tiff_do_not_keep_its_pixels_from_being_read(photo):
    """Pillow's loader reads the Exif directory, and fails on it."""
    odd = Field(12, b"\xff" * 4)
    fields = {0x010F: Field(ASCII, b"m\0"), EXIF: {0x829A: odd, 0x9286: Field(11, b"abcd")}}
    data = tiff(photo, {**fields, GPS: Field(4, b"\xff\xff\xff\xff")})
    picture = read_image(data)
    assert np.array_equal(picture.pixels, np.asarray(photo))
    assert opened(saved(photo, "PNG", exif=picture.exif)).getexif()[0x010F] == "m"


def test_a_tiff_is_not_turned_by_its_xmp(photo):
    data = tiff(photo, {700: Field(1, XMP % b'tiff:Orientation="6"')})
    picture = read_image(data)
    assert picture.size == photo.size
    assert b"Orientation" not in picture.xmp


@ORDERS
def test_a_written_tiff_holds_the_block_as_it_is(photo, order):
    exif = block(camera_fields(order, orientation=1), order)
    data = into_tiff(saved(photo, "TIFF", icc_profile=PROFILE), exif, b"<x:xmpmeta/>")
    image = opened(data)
    assert image.tobytes() == photo.tobytes()
    assert image.info["icc_profile"] == PROFILE
    assert image.info["xmp"] == b"<x:xmpmeta/>"
    assert exif[6:][8:] in data  # where it was, with private notes whose offsets hold
    assert data.index(NOTES) == exif.index(NOTES) - 6
    assert image.getexif()[0x013B].encode("latin-1") + b"\0" == ARTIST
    assert image.getexif().get_ifd(EXIF)[0x9286] == b"UNICODE\0h\0i\0"
    assert image.getexif().get_ifd(GPS)[1] == "N"
    again = read_image(data)
    assert again.exif == block(
        {k: v for k, v in camera_fields(order).items() if k != 0x0112}, order
    )


def test_a_written_tiff_keeps_its_own_layout(photo):
    exif = block({256: numbers(4, 7), 258: numbers(3, 1), 0x010F: Field(ASCII, b"m\0")})
    image = opened(into_tiff(saved(photo.convert("LA"), "TIFF"), exif))
    assert image.tobytes() == photo.convert("LA").tobytes()
    assert image.getexif()[0x010F] == "m"


def test_directories_that_claim_too_much_are_cut_short():
    data = b"II*\0\x08\0\0\0\xff\xff" + b"\x0f\x01\x02\0\xff\xff\xff\xff\0\0\0\0" * 5000
    assert TiffReader(io.BytesIO(data)).fields(8) == {}


# -- XMP -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told",
    [b'tiff:Orientation="6"', b"tiff:Orientation='6'", b'\n  tiff:Orientation = "6"\n'],
)
def test_orientation_in_xmp_goes_whatever_exif_says(photo, told):
    for exif, size in ((b"", (64, 48)), (block(camera_fields(orientation=6)), (48, 64))):
        picture = read_image(saved(photo, "JPEG", exif=exif, xmp=XMP % told))
        assert picture.size == size
        assert b"Orientation" not in picture.xmp
        assert b'tiff:Make="m"' in picture.xmp
        assert picture.notes == ()


def test_orientation_goes_as_an_element_and_under_another_prefix():
    xmp = XMP.replace(b"tiff:", b"t:").replace(b":tiff", b":t")
    xmp = (xmp % b"").replace(b"/></rdf:RDF>", b"><t:Orientation>6</t:Orientation></rdf:RDF>")
    assert without_stale(xmp)[0] == xmp.replace(b"<t:Orientation>6</t:Orientation>", b"")


def test_announced_gain_maps_go_with_a_note(photo):
    picture = read_image(saved(photo, "JPEG", xmp=GAIN_MAP))
    for word in (b"hdrgm", b"hdr-gain-map", b"container", b"Item", b"2345"):
        assert word not in picture.xmp
    assert b'xmp:Rating="3"' in picture.xmp
    assert picture.notes == ("the gain map is not kept",)


def test_xmp_without_stale_properties_keeps_every_byte(photo):
    xmp = (XMP % b'tiff:Model="Orientation"') + b"\n" + b" " * 2000 + b'<?xpacket end="w"?>'
    assert read_image(saved(photo, "JPEG", xmp=xmp)).xmp == xmp


@pytest.mark.parametrize(
    "xmp",
    [b" " * 400_000, b"<tiff:Orientation " * 20_000, b"<tiff:Orientation>" * 20_000,
     b" tiff:Orientation='" * 20_000, b"<hdrgm:a/>" * 40_000, b" xmlns:a='" * 40_000],
)  # fmt: skip
@pytest.mark.timeout(5)
def test_hostile_xmp_takes_linear_time(xmp):
    without_stale(xmp)


# -- ICC -----------------------------------------------------------------------------------------


def test_a_profile_for_other_channels_is_dropped_with_a_note(photo):
    picture = read_image(saved(photo.convert("L"), "PNG", icc_profile=PROFILE))
    assert picture.icc == b""
    assert any("profile is for other channels" in note for note in picture.notes)
    assert read_image(saved(photo, "PNG", icc_profile=PROFILE)).icc == PROFILE


def test_metadata_behind_the_pixels_of_a_png_are_found(photo):
    exif = block(camera_fields(orientation=1))
    data = saved(photo, "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    end = start + 12 + len(exif) - 6
    moved = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    assert read_image(moved).exif == exif
