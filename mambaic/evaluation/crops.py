"""A page of crops at equal bytes, the original first: what figures do not say."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mambaic.errors import MambaICError
from mambaic.evaluation.contenders import Contender
from mambaic.evaluation.page import label_of
from mambaic.evaluation.report import file_stem
from mambaic.extras import require
from mambaic.imaging.atomic_files import atomic_write
from mambaic.imaging.image import Picture
from mambaic.imaging.metrics import psnr_db
from mambaic.imaging.ssimulacra2 import ssimulacra2

SIDE = 256  # pixels of a crop
STEP = 16  # pixels from one place that is looked at to the next
FOLDER = "crops"  # of the files of pictures, beside the page


class Version(NamedTuple):
    """One picture of a row: the original or what a codec makes of it, cut."""

    label: str
    image: Image.Image


@dataclass(frozen=True)
class Row:
    """``image`` at ``bpp`` bits per pixel, by every codec; ``failures``: codecs without a file."""

    image: str
    bpp: float
    versions: Sequence[Version]
    failures: Sequence[str]


def place_of_detail(pixels: np.ndarray, side: int = SIDE) -> tuple[int, int]:
    """(left, top) of the crop of pixels (H, W, 3) with most texture: the mean logarithm of
    gradients, so that a few strong edges do not outweigh grass or skin."""
    light = pixels.mean(axis=2)
    gradient = np.abs(np.diff(light, axis=0))[:, :-1] + np.abs(np.diff(light, axis=1))[:-1]
    sums = np.pad(np.log1p(gradient).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = gradient.shape
    h, w = min(side - 1, height), min(side - 1, width)
    tops, lefts = np.arange(0, height - h + 1, STEP), np.arange(0, width - w + 1, STEP)
    top, left = tops[:, None], lefts[None]
    inside = sums[top + h, left + w] - sums[top, left + w] - sums[top + h, left] + sums[top, left]
    row, column = np.unravel_index(inside.argmax(), inside.shape)
    return int(lefts[column]), int(tops[row])


def row_of(
    name: str,
    picture: Picture,
    contenders: Sequence[Contender],
    bpp: float,
    place: tuple[int, int] | None,
) -> Row:
    """Every codec at its better setting; mambaic models in the bytes of the smallest other file.
    ``place``: (left, top) of the crop."""
    width, height = picture.size
    box = _box(width, height, *(place or place_of_detail(picture.pixels)))
    n_bytes = round(bpp * width * height / 8)
    found: dict[str, tuple[float, Version]] = {}
    failures = []
    for contender in sorted(contenders, key=lambda c: c.ours):
        try:
            data = contender.encode_to_size(picture, n_bytes)
            decoded = contender.decode(data).convert("RGB")
        except MambaICError as exc:
            failures.append(f"{contender.name} {contender.setting}: {exc}")
            continue
        if not contender.ours:
            n_bytes = min(n_bytes, len(data))
        version = Version(label_of(contender, picture, decoded, len(data)), decoded.crop(box))
        score = _score(picture.pixels, np.asarray(decoded))
        if contender.name not in found or score > found[contender.name][0]:
            found[contender.name] = score, version
    order = dict.fromkeys(c.name for c in contenders)
    original = Version("original", Image.fromarray(picture.pixels).crop(box))
    shown = [original, *(found[name][1] for name in order if name in found)]
    return Row(name, bpp, shown, failures)


def _box(width: int, height: int, left: int, top: int) -> tuple[int, int, int, int]:
    """The crop at a place, moved into the picture."""
    left, top = max(0, min(left, width - SIDE)), max(0, min(top, height - SIDE))
    return left, top, min(width, left + SIDE), min(height, top + SIDE)


def _score(reference: np.ndarray, decoded: np.ndarray) -> float:
    """SSIMULACRA2, PSNR of pictures that are too small for it."""
    score = ssimulacra2(reference, decoded)
    return psnr_db(reference, decoded) if score is None else score


def write_crops(folder: Path, rows: Sequence[Row], libraries: Mapping[str, str]) -> Path:
    """The page and its pictures, PNG files in a folder beside it. Raises MissingPackage."""
    require("eval")
    import jinja2

    shown = []
    for row in rows:
        cells = []
        for number, version in enumerate(row.versions):
            name = f"{file_stem(Path(row.image).stem)}-{row.bpp:g}-{number}.png"
            buffer = io.BytesIO()
            version.image.save(buffer, "PNG")
            atomic_write(folder / FOLDER / name, buffer.getvalue(), force=True)
            cells.append({"label": version.label, "file": f"{FOLDER}/{name}"})
        shown.append({"image": row.image, "bpp": row.bpp, "cells": cells, "notes": row.failures})
    source = (resources.files("mambaic.evaluation") / "crops.html.j2").read_text()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(source).render(rows=shown, libraries=libraries)
    atomic_write(folder / "crops.html", page.encode(), force=True)
    return folder / "crops.html"
