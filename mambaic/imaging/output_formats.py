"""Formats that decoded pictures are written in; imports nothing, so that ``--help`` is quick."""

from __future__ import annotations

# file suffix: Pillow's name
FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tiff": "TIFF", "bmp": "BMP", "ppm": "PPM"}
# what the writers keep; the others leave it out without a word
ALPHA = {"png", "webp", "tiff"}
METADATA = {"png", "jpg", "webp", "tiff"}
