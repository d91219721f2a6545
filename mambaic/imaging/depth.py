"""Numbers of more than 8 bits, floats and integers become 8 bits by a stated range.

Unsigned numbers of up to 16 bits in a file that says so go by their nominal range, 0 to 65535 for
16 bits. For the others, whose files do not say what white is, their values decide: 0 to 1, 0 to 255
or 0 to 65535 if they plausibly are such, else from the least to the greatest of them. So nothing
becomes black or white alone, and the note names the range.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mambaic.imaging.held import MODE_BITS, Held

STRIP = 256  # rows
# (white, the least that is plausible then, the least and the greatest of the brightest number);
# floats go beyond white and black where a filter has sharpened them
FLOAT_RANGES = (
    (1.0, -0.1, 4 / 255, 1.5),
    (255.0, -25.0, 128.0, 280.0),
    (65535.0, -6500.0, 32768.0, 72000.0),
)
INTEGER_RANGES = ((255.0, 0.0, 128.0, 255.0), (65535.0, 0.0, 32768.0, 65535.0))
LARGEST = 1e30  # greater ones stand for no value


@dataclass(frozen=True)
class Range:
    """``black`` and ``white`` in a file's numbers; ``nominal`` if the file itself says so."""

    black: float
    white: float
    nominal: bool = False


def is_deep(image: Image.Image, held: Held) -> bool:
    """Do the pixels themselves, as Pillow hands them out, need to be brought to 8 bits?"""
    return image.mode in MODE_BITS or (image.mode == "L" and held.kind == "signed")


def eight_bits(image: Image.Image, held: Held) -> tuple[Image.Image, str]:
    """(mode L, what was done) of an image of one deep channel."""
    span = _range(image, held)
    width, height = image.size
    out = np.empty((height, width), dtype=np.uint8)
    scale = 255.0 / (span.white - span.black)
    top = 0
    for values in _strips(image, held):
        with np.errstate(invalid="ignore", over="ignore"):
            levels = np.nan_to_num((values - span.black) * scale, posinf=255.0, neginf=0.0)
        out[top : top + len(values)] = np.rint(levels).clip(0, 255)
        top += len(values)
    if held.white_is_zero:
        np.subtract(255, out, out=out)
    small = Image.fromarray(out)
    small.info = {k: v for k, v in image.info.items() if k != "transparency"}
    note = "reduced to 8 bits a channel"
    if not span.nominal:
        note += f": {span.black:.6g} became black and {span.white:.6g} white"
    return small, note


def _range(image: Image.Image, held: Held) -> Range:
    if held.nominal:
        return Range(0.0, float(2**held.bits - 1), nominal=True)
    low, high = math.inf, -math.inf
    for values in _strips(image, held):
        finite = values[np.isfinite(values)]
        low, high = min(low, finite.min(initial=low)), max(high, finite.max(initial=high))
    for white, lowest, dark, highest in FLOAT_RANGES if held.kind == "float" else INTEGER_RANGES:
        if lowest <= low and dark <= high <= highest:
            return Range(0.0, white)
    if low > high:  # not one number
        return Range(0.0, 1.0)
    if low == high:  # nothing tells what is dark and what is bright
        return Range(low - 1.0, low + 1.0) if low else Range(0.0, 1.0)
    return Range(low, high)


def _strips(image: Image.Image, held: Held) -> Iterator[np.ndarray]:
    """Rows (n, W) float64, NaN where there is no value."""
    width, height = image.size
    for top in range(0, height, STRIP):
        raw = np.asarray(image.crop((0, top, width, min(top + STRIP, height))))
        if raw.dtype == np.uint8 and held.kind == "signed":
            raw = raw.view(np.int8)
        elif raw.dtype == np.int32 and held.kind == "unsigned":
            raw = raw.view(np.uint32)  # Pillow's are signed: those from 2**31 on have wrapped
        values = raw.astype(np.float64)
        missing = np.abs(values) > LARGEST
        if not math.isnan(held.missing):
            missing |= values == held.missing
        values[missing & ~np.isinf(values)] = np.nan
        yield values
