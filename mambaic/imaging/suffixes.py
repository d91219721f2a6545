"""Names of files: suffixes by which folders and archives are searched (the content decides what a
file is), and names of results that are told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import TypeVar

AnyPath = TypeVar("AnyPath", bound=PurePath)
MBIC_SUFFIX = ".mbic"

IMAGE_SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif",
    ".jp2", ".jxl",
}  # fmt: skip

# what macOS puts beside files on foreign disks and into archives: no pictures, whatever their names
MAC_PREFIX, MAC_FOLDER = "._", "__MACOSX"


def is_mac_companion(path: PurePath) -> bool:
    """Whether a file within a folder or an archive is one of those."""
    return path.name.startswith(MAC_PREFIX) or MAC_FOLDER in path.parts


def tell_apart(
    pairs: Sequence[tuple[AnyPath | None, AnyPath | None]], new_suffix: str
) -> list[AnyPath | None]:
    """Targets of (source, target), None where there is none: a.gif and a.png become a.gif.mbic and
    a.png.mbic. The longer name may be another's (a.gif.png), which then takes a longer one, too."""
    targets = [target for _, target in pairs]
    longer: set[int] = set()
    while new := meeting(targets) - longer:
        for i in new:
            source, target = pairs[i]
            assert source is not None
            assert target is not None
            targets[i] = target.with_name(source.name + new_suffix)
        longer |= new
    return targets


def meeting(targets: Sequence[AnyPath | None]) -> set[int]:
    """Indices of targets that are also those of others."""
    counts = Counter(targets)
    return {i for i, target in enumerate(targets) if target is not None and counts[target] > 1}
