"""What a file held that a Picture does not: depth, frames, gain maps and other parts.

Every format is asked by its own headers, as Pillow tells too little: of most formats it hands out 8
bits without a word, and opens a gain map's file as the plain picture. A source is deleted only if
nothing is left out, so what cannot be known counts as left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO

from PIL import Image

from mambaic.imaging import held_tiff
from mambaic.imaging.held_boxes import PICTURES, heif, jpeg2000
from mambaic.imaging.held_jpeg import jpeg
from mambaic.imaging.held_jxl import jxl
from mambaic.imaging.held_png import png, webp
from mambaic.imaging.opening import FOREIGN_ERRORS

# deep modes of Pillow, where no file tells
MODE_BITS = {"I": 32, "F": 32, "I;16": 16, "I;16B": 16, "I;16L": 16, "I;16N": 16}
# one picture of at most 8 bits a channel, or frames that Pillow counts
PLAIN_FORMATS = {
    "BMP", "DIB", "PCX", "DCX", "TGA", "QOI", "XBM", "XPM", "MSP", "SUN", "PIXAR", "FLI", "WAL",
    "IMT", "IM", "SPIDER", "MBIC",
}  # fmt: skip
LOSSY_FORMATS = {"WEBP", "AVIF", "HEIF", "JXL"}  # their encoders make up colours under alpha 0
OTHER_PARTS = {
    "PSD": "the rest of a Photoshop file (layers and the like)",
    "EPS": "the vector graphic",
    "WMF": "the vector graphic",
    "PCD": "the larger size of a Photo CD",
    "FITS": "the rest of a FITS file",
}
PNM_START = re.compile(rb"P[2356y]\w*\s+(?:#[^\r\n]*\s+)*\d+\s+(?:#[^\r\n]*\s+)*\d+\s+"
                       rb"(?:#[^\r\n]*\s+)*(\d+)")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Held:
    """``bits`` of the deepest channel; ``kind`` of its numbers: unsigned, signed or float;
    ``nominal``: does the largest of ``bits`` mean white; ``missing``: the number that stands for
    none, NaN if there is no such; ``hidden_colours``: are those under alpha 0 anybody's, and not
    made up by an encoder; ``lost``: parts that are left out, in the words of a note."""

    bits: int = 8
    kind: str = "unsigned"
    nominal: bool = False
    white_is_zero: bool = False
    missing: float = float("nan")
    gray_alpha: bool = False
    hidden_colours: bool = True
    frames: int = 1
    lost: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """All but the depth, of which ``depth`` tells when it is reduced."""
        several = [f"only the first of {self.frames} frames is kept"] if self.frames > 1 else []
        return several + [f"{part} is not kept" for part in self.lost]


def held_by_mode(image: Image.Image) -> Held:
    """By a Pillow image alone, of which nothing but its pixels is known."""
    bits = MODE_BITS.get(image.mode, 8)
    kind = {"F": "float", "I": "signed"}.get(image.mode, "unsigned")
    return Held(bits=bits, nominal=bits == 16, kind=kind)


def held_in(image: Image.Image, file: BinaryIO) -> Held:
    """By the file that ``image`` was opened from and stands at the first frame of."""
    place = file.tell()
    try:
        return _held_in(image, file)
    except FOREIGN_ERRORS:
        image.seek(0)
        return replace(held_by_mode(image), lost=(_unknown(image),))
    finally:
        file.seek(place)


def _held_in(image: Image.Image, file: BinaryIO) -> Held:
    name = image.format or ""
    # Pillow counts the layers of a Photoshop file, whose picture is all of them
    frames = 1 if name == "PSD" else getattr(image, "n_frames", 1)
    shown = held_by_mode(image)
    if name == "TIFF":
        found = held_tiff.samples(image)
        return Held(
            **found._asdict(),
            nominal=found.kind == "unsigned" and found.bits <= 16,
            frames=max(frames, held_tiff.imagej_frames(image)),
            lost=tuple(held_tiff.tiff(image)),
        )
    if name == "PNG":
        bits, gray_alpha, lost = png(file, image)
        shown = replace(shown, gray_alpha=gray_alpha)
    elif name in ("JPEG", "MPO"):
        bits, lost = 8, jpeg(file, several=frames > 1)
    elif name in READERS:
        bits, lost = READERS[name](file, image)
    else:
        bits = 8
        lost = [] if name in PLAIN_FORMATS else [OTHER_PARTS.get(name, _unknown(image))]
    if frames > 1:
        lost = [part for part in lost if not part.endswith(PICTURES)]
    if name == "PPM" and image.mode == "I":
        # Pillow scales its numbers to 16 bits
        shown = replace(shown, bits=16, kind="unsigned", nominal=True)
    if image.mode in MODE_BITS:
        bits = max(shown.bits, bits)
    return replace(
        shown,
        bits=bits,
        frames=frames,
        hidden_colours=name not in LOSSY_FORMATS,
        lost=tuple(lost),
    )


def _unknown(image: Image.Image) -> str:
    return f"what else this {image.format} file may hold"


def _pnm(file: BinaryIO, image: Image.Image) -> tuple[int, list[str]]:
    file.seek(0)
    found = PNM_START.match(file.read(4096))
    return (int(found[1]).bit_length() if found else 8), []


def _sgi(file: BinaryIO, image: Image.Image) -> tuple[int, list[str]]:
    file.seek(3)
    return 8 * file.read(1)[0], []


def _gif(file: BinaryIO, image: Image.Image) -> tuple[int, list[str]]:
    return 8, ["the comment"] if image.info.get("comment") else []


def _icons(file: BinaryIO, image: Image.Image) -> tuple[int, list[str]]:
    file.seek(4)
    count = int.from_bytes(file.read(2), "little")
    return 8, [f"the rest of {count} sizes"] if count > 1 else []


def _icns(file: BinaryIO, image: Image.Image) -> tuple[int, list[str]]:
    count = len(image.info.get("sizes", ()))
    return 8, [f"the rest of {count} sizes"] if count > 1 else []


def _dds(file: BinaryIO, image: Image.Image) -> tuple[int, list[str]]:
    lost = []
    file.seek(0)
    header = file.read(148)
    extended = header[84:88] == b"DX10"
    faces = int.from_bytes(header[112:116], "little") & 0x20FE00  # of a cube, or slices
    if faces or (extended and int.from_bytes(header[140:144], "little") > 1):
        lost.append("the rest of the pictures (faces of a cube, slices or the like)")
    return 16 if "BC6" in getattr(image, "pixel_format", "") else 8, lost


READERS: dict[str, Callable[[BinaryIO, Image.Image], tuple[int, list[str]]]] = {
    "AVIF": lambda file, image: heif(file),
    "HEIF": lambda file, image: heif(file),
    "JPEG2000": lambda file, image: jpeg2000(file),
    "JXL": jxl,
    "WEBP": lambda file, image: (8, webp(file)),
    "PPM": _pnm,
    "SGI": _sgi,
    "GIF": _gif,
    "ICO": _icons,
    "CUR": _icons,
    "ICNS": _icns,
    "DDS": _dds,
}
