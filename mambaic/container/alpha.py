"""The alpha plane, kept without loss: zlib over rows predicted from the row above.

Format section: docs/format.md, "Alpha".
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from mambaic.errors import CorruptStream


def encode_alpha(alpha: NDArray[np.uint8]) -> bytes:
    """(H, W) uint8 -> bytes."""
    difference = alpha.copy()
    difference[1:] -= alpha[:-1]
    return zlib.compress(difference.tobytes(), 9)


def decode_alpha(data: bytes, width: int, height: int) -> NDArray[np.uint8]:
    """Inverse of ``encode_alpha``. Raises CorruptStream; inflates no more than the plane's size."""
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data, width * height)
    except zlib.error as exc:
        raise CorruptStream(f"the alpha plane does not inflate: {exc}") from exc
    if len(plain) != width * height or inflater.decompress(inflater.unconsumed_tail, 1):
        raise CorruptStream("the alpha plane has not the picture's size: the data is damaged")
    difference = np.frombuffer(plain, dtype=np.uint8).reshape(height, width)
    return np.cumsum(difference, axis=0, dtype=np.uint8)
