"""The HTML page of a report: one file, no network, with plots, tables and an image slider."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mambaic.evaluation.curves import Curve
from mambaic.evaluation.measure import Contender, OurContender, at_size
from mambaic.evaluation.plots import PANELS
from mambaic.evaluation.report import percent
from mambaic.extras import require
from mambaic.imaging.image import Picture, to_pil
from mambaic.imaging.metrics import bpp_from_bytes, psnr_db

GALLERY_QUALITY = 25.0  # low enough that codecs differ to the eye
LONGEST_SIDE = 1024  # of the pictures in the page; larger ones are cut to their middle


def gallery_entry(name: str, picture: Picture, contenders: Sequence[Contender]) -> dict[str, Any]:
    """One picture by every codec, each in the largest file that is no larger than the first
    mambaic model's at ``GALLERY_QUALITY`` (or the first codec's at its middle quality)."""
    leader = next((c for c in contenders if isinstance(c, OurContender)), contenders[0])
    ours = isinstance(leader, OurContender)
    quality = GALLERY_QUALITY if ours else leader.qualities[len(leader.qualities) // 2]
    goal = len(leader.encode(picture, quality)[0])
    box = _middle(picture)
    versions = [{"label": "original", "image": _embedded(to_pil(picture).crop(box))}]
    for contender in contenders:
        if contender is leader:
            data = leader.encode(picture, quality)[0]
        else:
            low, high = min(contender.qualities) / 2, max(contender.qualities)
            data = at_size(lambda q, c=contender: c.encode(picture, q)[0], goal, low, high)  # type: ignore[misc]
        decoded = contender.decode(data).convert("RGB")
        bpp = bpp_from_bytes(len(data), *picture.size)
        psnr = psnr_db(picture.pixels, np.asarray(decoded))
        label = f"{contender.name}, {bpp:.3f} bpp, {psnr:.2f} dB"
        versions.append({"label": label, "image": _embedded(decoded.crop(box))})
    return {
        "name": name,
        "width": box[2] - box[0],
        "height": box[3] - box[1],
        "versions": versions,
    }


def _middle(picture: Picture) -> tuple[int, int, int, int]:
    width, height = picture.size
    w, h = min(width, LONGEST_SIDE), min(height, LONGEST_SIDE)
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _embedded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def render(
    folder: Path,
    measured: Mapping[str, Curve],
    table: Sequence[Mapping[str, Any]],
    anchor: str,
    libraries: Mapping[str, str],
    gallery: Sequence[Mapping[str, Any]],
    unreadable: Mapping[str, str],
) -> str:
    """HTML of a report whose plots lie in ``folder``. Raises MissingPackage."""
    require("eval")
    import jinja2

    source = (resources.files("mambaic.evaluation") / "page.html.j2").read_text()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["percent"] = percent
    plots = [
        "data:image/svg+xml;base64,"
        + base64.b64encode((folder / f"{stem}.svg").read_bytes()).decode()
        for stem in PANELS
    ]
    return environment.from_string(source).render(
        measured=measured, table=table, anchor=anchor, libraries=libraries, gallery=gallery,
        unreadable=unreadable, plots=plots, similar=any("bd_rate_ms_ssim" in r for r in table),
    )  # fmt: skip
