"""Alpha of any kind as a plane of 8 bits, and colours for the pixels that it hides."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from PIL import Image

from mambaic.imaging.held import MODE_BITS, Held

STRIP = 256  # rows; even, so that blocks of 2x2 pixels do not span two strips
PREMULTIPLIED = {"RGBa": "RGBA", "La": "LA"}
KEY = (
    "transparency"  # Pillow's name for the colour, or the alpha of a palette, that PNG and GIF keep
)


def split_alpha(image: Image.Image, held: Held) -> tuple[Image.Image, np.ndarray | None]:
    """(image without alpha, alpha (H, W) uint8 or None where all is opaque); gray stays gray."""
    if image.mode in MODE_BITS:
        return image, _opaque_is_none(_deep_key_alpha(image))
    if image.mode in ("1", "L"):
        return image.convert("L"), _opaque_is_none(_gray_key_alpha(image, held))
    gray = held.gray_alpha or image.mode in ("LA", "La") or _has_gray_palette(image)
    if image.mode in PREMULTIPLIED:
        image = image.convert(PREMULTIPLIED[image.mode])
    if image.mode == "RGB" and held.bits > 8 and KEY in image.info:
        del image.info[KEY]  # of 16 bits: ``apply_deep_key`` has made it the image's alpha
    if "A" not in image.getbands() and KEY not in image.info:
        return image.convert("L") if gray else image, None
    image = image.convert("RGBA")
    alpha = np.asarray(image.getchannel("A"))
    return image.convert("L" if gray else "RGB"), _opaque_is_none(alpha)


def _opaque_is_none(alpha: np.ndarray | None) -> np.ndarray | None:
    return None if alpha is None or alpha.min() == 255 else alpha


def _has_gray_palette(image: Image.Image) -> bool:
    if image.mode not in ("P", "PA"):
        return False
    colours = np.array(image.getpalette("RGB") or [0]).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def _deep_key_alpha(image: Image.Image) -> np.ndarray | None:
    key = image.info.get(KEY)
    if not isinstance(key, int):
        return None
    return _where_not(np.asarray(image) == key)


def _gray_key_alpha(image: Image.Image, held: Held) -> np.ndarray | None:
    key = image.info.get(KEY)
    if not isinstance(key, int):
        return None
    if image.mode == "1":
        key = 255 if key else 0  # Pillow before 13 gives 1
    elif held.bits < 8:
        # the file's number, of fewer bits than the pixels, which Pillow has scaled
        key = key * 255 // (2**held.bits - 1)
    return _where_not(np.asarray(image.convert("L")) == key)


def _where_not(hidden: np.ndarray) -> np.ndarray:
    return np.where(hidden, np.uint8(0), np.uint8(255))


def apply_deep_key(image: Image.Image, file: BinaryIO, held: Held) -> None:
    """Make alpha of the colour key of a PNG of 16 bits a channel.

    Pillow hands out the upper halves of its numbers, which many colours have in common with the
    key; the lower halves come of a second reading, as if bytes were in the other order.
    """
    key = image.info.get(KEY)
    if image.format != "PNG" or image.mode != "RGB" or held.bits != 16 or key is None:
        return
    file.seek(0)
    with Image.open(file) as again:
        tile = again.tile[0]  # type: ignore[attr-defined]
        again.tile = [tile._replace(args="RGB;16L")]  # type: ignore[attr-defined]
        low = np.asarray(again)
    hidden = (np.asarray(image) == np.array(key) >> 8).all(axis=2)
    hidden &= (low == np.array(key) & 255).all(axis=2)
    image.putalpha(Image.fromarray(_where_not(hidden)))
    del image.info[KEY]


def fill_hidden(pixels: np.ndarray, alpha: np.ndarray) -> bool:
    """Colours of ``pixels`` (H, W, 3) uint8 where ``alpha`` is 0 go over smoothly from those that
    can be seen, in place; False if hidden ones were all the same before.

    Nobody sees them, and edges and noise in them cost bits. Halves the picture again and again,
    means of visible pixels alone, and fills from coarse to fine, in less memory than pixels take.
    A picture of which nothing can be seen stays as it is.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return False
    height, width = alpha.shape
    one = pixels[divmod(int(hidden.argmax()), width)].copy()
    varied = False
    coarse = _filled(_halved(pixels, alpha))
    for top in range(0, height, STRIP):
        rows = slice(top, min(top + STRIP, height))
        varied = varied or bool((pixels[rows][hidden[rows]] != one).any())
        box = (0, top / 2, width / 2, rows.stop / 2)
        smooth = coarse.resize((width, rows.stop - top), Image.Resampling.BILINEAR, box)
        np.copyto(pixels[rows], np.asarray(smooth), where=hidden[rows, :, None])
    return varied


def _halved(pixels: np.ndarray, alpha: np.ndarray) -> Image.Image:
    """RGBA of half the size, opaque where any of 2x2 pixels can be seen: their mean."""
    height, width = alpha.shape
    half = Image.new("RGBA", ((width + 1) // 2, (height + 1) // 2))
    for top in range(0, height, STRIP):
        rows = slice(top, top + STRIP)
        seen = np.where(alpha[rows] > 0, np.uint8(255), np.uint8(0))
        strip = Image.fromarray(np.dstack([pixels[rows], seen]))
        half.paste(_reduced(strip), (0, top // 2))
    return half


def _reduced(image: Image.Image) -> Image.Image:
    """RGBA of half the size, alpha 0 or 255."""
    half = image.reduce(2)  # Pillow weighs colours by alpha
    half.putalpha(half.getchannel("A").point(lambda value: 255 if value else 0))
    return half


def _filled(image: Image.Image) -> Image.Image:
    """RGB of RGBA, its transparent pixels filled from the others."""
    alpha = image.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return image.convert("RGB")
    coarse = _filled(_reduced(image))
    width, height = image.size
    smooth = coarse.resize(image.size, Image.Resampling.BILINEAR, (0, 0, width / 2, height / 2))
    smooth.paste(image.convert("RGB"), mask=alpha)
    return smooth
