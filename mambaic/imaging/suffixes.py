"""Suffixes by which folders and archives are searched; the content decides what a file is."""

from __future__ import annotations

from pathlib import PurePath

IMAGE_SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif",
    ".jp2", ".jxl",
}  # fmt: skip

# what macOS puts beside files on foreign disks and into archives: no pictures, whatever their names
MAC_PREFIX, MAC_FOLDER = "._", "__MACOSX"


def is_mac_companion(path: PurePath) -> bool:
    """Whether a file within a folder or an archive is one of those."""
    return path.name.startswith(MAC_PREFIX) or MAC_FOLDER in path.parts
