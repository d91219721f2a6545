"""Sources that hold more than a Picture say so, one note each; the others say nothing."""

from __future__ import annotations

import importlib.util
import io
import re
import struct

import numpy as np
import pytest
from conftest import photo_pixels
from picture_bytes import (
    AVIF_10,
    JP2_16,
    JXL_8,
    JXL_16,
    JXL_FRAMES,
    jpeg_with,
    png,
    saved,
    tiff,
)
from PIL import Image, PngImagePlugin

from mambaic.imaging.image import read_image

DEEP = "reduced to 8 bits"
needs_jxl = pytest.mark.skipif(
    importlib.util.find_spec("pillow_jxl") is None, reason="needs pillow-jxl-plugin"
)


def photo(width=40, height=24, mode="RGB"):
    return Image.fromarray(photo_pixels(height, width)).convert(mode)


def deep(channels=3):
    values = np.arange(24 * 40 * channels, dtype=np.uint16).reshape(24, 40, channels) * 20
    return values[..., 0] if channels == 1 else values


def pnm(maxval, kind=b"P6", comment=b""):
    channels = 3 if kind == b"P6" else 1
    numbers = np.arange(8 * 8 * channels) * 11 % (maxval + 1)
    header = kind + b"\n" + comment + b"8 8\n%d\n" % maxval
    return header + numbers.astype(">u2" if maxval > 255 else "u1").tobytes()


XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>%s</x:xmpmeta>"
MOTION = XMP % b'<rdf:Description GCamera:MotionPhoto="1"/>'
GAIN = XMP % b'<rdf:Description hdrgm:Version="1.0"/>'


def gain_map_with_index():
    """A JPEG with a second picture behind it, an index of both, and XMP that calls it a gain map:
    Pillow opens it as a plain JPEG."""
    data = saved(photo(), "MPO", save_all=True, append_images=[photo(20, 12, "L")])
    return jpeg_with(data, (0xE1, GAIN))


def jpeg(*segments, behind=b""):
    return jpeg_with(saved(photo(), "JPEG"), *segments) + behind


def layered_tiff():
    return tiff(photo_pixels(24, 40), extra=((37724, b"Adobe Photoshop Document Data Block\0"),))


def text_png(key):
    text = PngImagePlugin.PngInfo()
    text.add_text(key, "words")
    return saved(photo(), "PNG", pnginfo=text)


def box(kind, content):
    return struct.pack(">I4s", 8 + len(content), kind) + content


def depth_map_avif():
    """An AVIF with a property of an auxiliary picture, in a free place: readers go by items."""
    data = saved(photo(), "AVIF")
    urn = b"\0\0\0\0urn:mpeg:mpegB:cicp:systems:auxiliary:depth\0"
    meta = box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", box(b"auxC", urn))))
    return data + meta


HELD_MORE = {
    "png-16-gray": (png(deep(1)), DEEP),
    "png-16-rgb": (png(deep()), DEEP),
    "png-16-alpha": (png(deep(4) | 0x8000), DEEP),
    "png-16-gray-alpha": (png(deep(2) | 0x8000), DEEP),
    "png-text": (text_png("Author"), "the text 'Author' is not kept"),
    "png-unknown-chunk": (png(photo_pixels(8, 8), between=((b"prVt", b"x"),)), "the part 'prVt'"),
    "png-hdr": (png(photo_pixels(8, 8), between=((b"cICP", b"\x09\x10\0\1"),)), "the part 'cICP'"),
    "png-gamma": (png(photo_pixels(8, 8), between=((b"gAMA", b"\0\1\x86\xa0"),)), "gamma of 1"),
    "png-tail": (saved(photo(), "PNG") + b"another file", "behind the picture's end"),
    "tiff-16": (tiff(deep()), DEEP),
    "tiff-16-gray": (tiff(deep(1)), DEEP),
    "tiff-16-planar": (tiff(deep(), planar=True), DEEP),
    "tiff-16-tiled": (tiff(deep(), tile=16), DEEP),
    "tiff-16-planar-tiled": (tiff(deep(), tile=16, planar=True), DEEP),
    "tiff-16-big": (tiff(deep(), big=True), DEEP),
    "tiff-layers": (layered_tiff(), "the Photoshop block is not kept"),
    "tiff-raw": (tiff(photo_pixels(8, 8), extra=((50706, 1),)), "raw data of the camera"),
    "tiff-sub-images": (tiff(photo_pixels(8, 8), extra=((330, 8),)), "sub-images is not kept"),
    "tiff-extra": (tiff(photo_pixels(8, 8, 1)[..., [0, 1, 2, 0]], extra=((338, 0),)), "of 4 chan"),
    "imagej-stack": (
        tiff(photo_pixels(8, 8)[..., 0], extra=((270, b"ImageJ=1.54f\nimages=7\n\0"),)),
        "first of 7 frames",
    ),
    "ppm-16": (pnm(65535), DEEP),
    "ppm-10": (pnm(1023, comment=b"# 7 5 255\n"), DEEP),
    "pgm-16": (pnm(65535, b"P5"), DEEP),
    "sgi-16": (saved(photo(), "SGI", bpc=2), DEEP),
    "jp2-16": (JP2_16, DEEP),
    "j2k-16": (JP2_16[JP2_16.index(b"\xff\x4f\xff\x51") :], DEEP),
    "jp2-box": (saved(photo(), "JPEG2000") + box(b"uuid", bytes(20)), "the part 'uuid'"),
    "avif-10": (AVIF_10, DEEP),
    "avif-depth-map": (depth_map_avif(), "the auxiliary picture"),
    "avif-video": (saved(photo(), "AVIF") + box(b"mpvd", bytes(9)), "the part 'mpvd'"),
    "gain-map-xmp": (jpeg((0xE1, GAIN), behind=saved(photo(mode="L"), "JPEG")), "the gain map is"),
    "gain-map-index": (gain_map_with_index(), "the gain map is"),
    "gain-map-iso": (jpeg((0xE2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0")), "the gain map is"),
    "motion-photo": (jpeg((0xE1, MOTION), behind=box(b"ftyp", b"isom" * 9)), "the video is not"),
    "video-behind-jpeg": (jpeg(behind=box(b"ftyp", b"isom" + b"frame" * 20)), "data behind"),
    "jpeg-behind-jpeg": (jpeg(behind=jpeg()), "data behind"),
    "extended-xmp": (jpeg((0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(9))), "extended"),
    "thermal": (jpeg((0xE1, b"FLIR\0\1\0\0 raw counts")), "the data of APP1 is"),
    "jpeg-credentials": (jpeg((0xEB, b"JP\0\1 jumb")), "the data of APP11 is"),
    "iptc": (jpeg((0xED, b"Photoshop 3.0\0008BIM\x04\x04\0\0\0\0\0\0")), "IPTC block"),
    "jpeg-comment": (jpeg((0xFE, b"our wedding")), "the comment is not kept"),
    "mpo": (saved(photo(), "MPO", save_all=True, append_images=[photo()]), "first of 2 frames"),
    "gif-comment": (saved(photo(mode="P"), "GIF", comment=b"hello"), "the comment is not kept"),
    "icons": (saved(photo(48, 48), "ICO", sizes=[(16, 16), (48, 48)]), "the rest of 2 sizes"),
    "webp-chunk": (saved(photo(), "WEBP") + b"tail of something", "behind the picture's end"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "note"), HELD_MORE.values(), ids=HELD_MORE)
def test_one_note_tells_what_a_picture_does_not_keep(data, note):
    notes = read_image(data).notes
    assert len(notes) == 1
    assert re.search(note, notes[0])


@needs_jxl
@pytest.mark.parametrize(
    ("data", "note"),
    [(JXL_16, DEEP), (JXL_FRAMES, "the animation")],
    ids=["16", "frames"],
)
def test_of_jpeg_xl(data, note):
    (told,) = read_image(data).notes
    assert note in told


HELD_NO_MORE = {
    **{f"bmp-{w}": (saved(photo(w, 20), "BMP")) for w in (52, 53, 54, 71, 105, 138, 171)},
    "jpeg": saved(photo(), "JPEG"),
    "jpeg-progressive": saved(photo(161, 116), "JPEG", progressive=True, optimize=True),
    "jpeg-restarts": saved(photo(161, 116), "JPEG", restart_marker_blocks=1),
    "jpeg-padded": saved(photo(), "JPEG") + bytes(999),
    "jpeg-metadata": saved(photo(), "JPEG", xmp=b"<x:xmpmeta/>", icc_profile=b"", comment=b""),
    "jpeg-ducky": jpeg((0xEC, b"Ducky\0\1\0\4\0\0\0\x3c\0\0")),
    "png": saved(photo(), "PNG"),
    "png-1": saved(photo(mode="1"), "PNG"),
    "png-software": text_png("Software"),
    "png-palette": saved(photo(mode="P"), "PNG"),
    "gif": saved(photo(mode="P"), "GIF"),
    "webp": saved(photo(), "WEBP", xmp=b"<x/>"),
    "webp-lossless": saved(photo(), "WEBP", lossless=True),
    "avif": saved(photo(), "AVIF"),
    "jp2": saved(photo(16, 16), "JPEG2000"),
    "j2k": saved(photo(16, 16), "JPEG2000", no_jp2=True),
    "ppm": saved(photo(), "PPM"),
    "ppm-15": pnm(15, comment=b"# maxval 65535\n"),
    "pgm": saved(photo(mode="L"), "PPM"),
    "sgi": saved(photo(), "SGI"),
    "tga": saved(photo(), "TGA"),
    "qoi": saved(photo(), "QOI"),
    "icon": saved(photo(16, 16), "ICO"),
    "tiff": tiff(photo_pixels(24, 40)),
    "tiff-planar": tiff(photo_pixels(24, 40), planar=True),
    "tiff-big": tiff(photo_pixels(16, 16), big=True),
    "tiff-lzw": saved(photo(160, 16), "TIFF", compression="tiff_lzw"),
    "tiff-jpeg": saved(photo(160, 16), "TIFF", compression="jpeg"),
    "tiff-palette": saved(photo(mode="P"), "TIFF"),
}


@pytest.mark.parametrize("data", HELD_NO_MORE.values(), ids=HELD_NO_MORE)
def test_no_note_where_nothing_is_left_out(data):
    assert read_image(data).notes == ()


@needs_jxl
def test_no_note_of_a_jpeg_xl_of_8_bits():
    assert read_image(JXL_8).notes == ()


def test_colour_map_of_more_than_8_bits():
    data = bytearray(saved(photo(mode="P"), "TIFF"))
    assert read_image(bytes(data)).notes == ()
    with Image.open(io.BytesIO(data)) as opened:
        colours = struct.pack("<768H", *opened.tag_v2[320])
    at = data.index(colours)
    data[at : at + 2] = b"\x34\x12"
    (note,) = read_image(bytes(data)).notes
    assert DEEP in note


def test_formats_that_are_not_known_are_in_doubt(monkeypatch):
    class Other(PngImagePlugin.PngImageFile):
        format = "OTHER"

    data = b"OTHR" + saved(photo(), "PNG")
    monkeypatch.setattr(Image, "ID", ["OTHER"])
    monkeypatch.setattr(Image, "_initialized", 2)
    opened = Image.open(io.BytesIO(data[4:]), formats=["PNG"])
    opened.format = "OTHER"
    monkeypatch.setattr(Image, "open", lambda file: opened)
    (note,) = read_image(data[4:]).notes
    assert note == "what else this OTHER file may hold is not kept"


@pytest.mark.filterwarnings("ignore")  # Pillow's of the broken directory
def test_what_cannot_be_counted_is_in_doubt():
    """The first picture of a TIFF is read though its second is nowhere."""
    pixels = photo_pixels(8, 8)
    data = tiff(pixels)
    directory = struct.unpack("<I", data[4:8])[0]
    following = directory + 2 + 12 * struct.unpack("<H", data[directory : directory + 2])[0]
    picture = read_image(data[:following] + struct.pack("<I", 3) + data[following + 4 :])
    assert np.array_equal(picture.pixels, pixels)
    assert picture.notes == ("what else this TIFF file may hold is not kept",)
