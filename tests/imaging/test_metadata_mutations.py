"""Mutated EXIF, XMP, ICC and TIFF directories end in a picture or in a typed error."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from fuzz import mutate
from metadata_samples import (
    ARTIST,
    ASCII,
    GAIN_MAP,
    XMP,
    block,
    camera_fields,
    numbers,
    saved,
    tiff,
)
from PIL import Image, ImageCms, PngImagePlugin

from mambaic.errors import ImageError
from mambaic.imaging.exif import EXIF, PREFIX
from mambaic.imaging.export import image_bytes
from mambaic.imaging.image import read_image, to_pil
from mambaic.imaging.output_formats import METADATA
from mambaic.imaging.tiff_directory import SIZES, Field

SMALL = Image.fromarray(np.arange(8 * 6 * 3, dtype=np.uint8).reshape(6, 8, 3))
FORMATS = ("JPEG", "PNG", "WEBP")
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


class Seed(NamedTuple):
    """Data to be mutated, and the file made of it; ``sound``: whose pixels remain readable."""

    kind: str
    data: bytes
    file: Callable[[bytes], bytes]
    sound: bool = True


def odd_blocks():
    """A text, a fraction, a number in every type, on which Pillow's EXIF code fails."""
    for tag in (0x010E, 0x011A, 0x0128, 0x013B, 0x9C9B):
        for kind in SIZES:
            odd = Field(kind, b"\x7f\x01\0\x3f\0\0\x80\x7f" * 2)
            fields = {0x0112: numbers(3, 6), 0x0128: numbers(3, 2), tag: odd}
            yield block({**fields, EXIF: {0x9286: odd, 0x829A: odd}})
    empty = {0x0112: numbers(3, 6), 0x0128: numbers(3, 2), 0x011A: Field(ASCII, b"\0")}
    yield block(empty)


def exif_file(fmt):
    def file(data):
        return saved(SMALL, fmt, exif=PREFIX + data[6:])  # a JPEG marks EXIF by its first bytes

    return file


def raw_profile(data):
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n", zip=True)
    return saved(SMALL, "PNG", pnginfo=text)


def seeds():
    blocks = [block(camera_fields(order), order) for order in ("little", "big")]
    exif = [*blocks, block(camera_fields(), thumbnail=saved(SMALL, "JPEG")), *odd_blocks()]
    out = [Seed("exif", data, exif_file(fmt)) for data in exif for fmt in FORMATS]
    out += [Seed("exif", data, raw_profile) for data in blocks]
    for fmt in FORMATS:
        if fmt != "PNG":  # whose XMP is text of Pillow's
            xmp = lambda data, fmt=fmt: saved(SMALL, fmt, xmp=data)  # noqa: E731
            out += [Seed("xmp", data, xmp) for data in (GAIN_MAP, XMP % b'tiff:Orientation="6"')]
        icc = lambda data, fmt=fmt: saved(SMALL, fmt, icc_profile=data)  # noqa: E731
        out.append(Seed("icc", PROFILE, icc))
    plain = {0x010F: Field(ASCII, b"the maker\0"), 0x013B: Field(ASCII, ARTIST)}
    for order in ("little", "big"):
        extra = {**camera_fields(order), 700: Field(1, GAIN_MAP), 34675: Field(7, PROFILE[:600])}
        out.append(tiff_seed(tiff(SMALL, extra, order)))
        out.append(tiff_seed(tiff(SMALL, plain, "little", big=True)))
    return out


def tiff_seed(file):
    """Of its directories alone, which lie behind the pixels."""
    at = file.index(SMALL.tobytes()) + len(SMALL.tobytes())
    return Seed("tiff", file[at:], lambda data: file[:at] + data, sound=False)


def survive(count, seed):
    """What ``count`` mutations ended in. Any exception but ImageError passes through, and what was
    read can be written and read again in some format."""
    rng = random.Random(seed)
    known = seeds()
    kinds = sorted({kind for kind, *_ in known})
    found: Counter[str] = Counter()
    for number in range(count):
        kind = kinds[number % len(kinds)]
        chosen = rng.choice([item for item in known if item.kind == kind])
        data = mutate(chosen.data, rng)
        file = chosen.file(data)
        try:
            picture = read_image(file)
        except ImageError as exc:
            if chosen.sound:
                raise AssertionError(f"{kind}: {file.hex()}") from exc
            found[f"{kind}: refused"] += 1
            continue
        except Exception as exc:
            raise AssertionError(f"{kind}: {file.hex()}") from exc
        found[f"{kind}: read"] += 1
        if chosen.sound:
            assert sorted(picture.size) == [6, 8]
        assert len(picture.exif) + len(picture.xmp) <= len(file) + len(data)
        back = read_image(image_bytes(to_pil(picture), rng.choice(sorted(METADATA)))[0])
        assert back.pixels.shape == picture.pixels.shape
    return found


def test_mutated_metadata_end_in_a_picture_or_a_typed_error():
    found = survive(200, 0)
    assert {f"{kind}: read" for kind in ("exif", "xmp", "icc", "tiff")} <= set(found)


@pytest.mark.slow
def test_many_mutations_end_in_a_picture_or_a_typed_error():
    found = survive(20_000, 4)
    assert found["tiff: refused"] > 100


@pytest.mark.parametrize("data", list(odd_blocks()), ids=lambda _: "")
@pytest.mark.parametrize("fmt", FORMATS)
def test_odd_blocks_are_read_as_they_are(fmt, data):
    picture = read_image(exif_file(fmt)(data))
    assert picture.size == (6, 8)
    assert len(picture.exif) == len(data)
