"""The HTML page of a report: one file, no network, with plots, tables and an image slider."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
from PIL import Image

from mambaic.container.fields import bpp_from_bytes
from mambaic.errors import MambaICError
from mambaic.evaluation.contenders import Contender
from mambaic.evaluation.measure import Point
from mambaic.evaluation.pictures import better_settings
from mambaic.evaluation.plots import stems
from mambaic.evaluation.report import Report
from mambaic.evaluation.tables import tables
from mambaic.extras import require
from mambaic.imaging.image import Picture, to_pil
from mambaic.imaging.metrics import psnr_db
from mambaic.imaging.ssimulacra2 import ssimulacra2

GALLERY_QUALITY = 25.0  # low enough that codecs differ to the eye
LONGEST_SIDE = 1024  # of the pictures in the page; larger ones are cut to their middle


def shown_contenders(
    contenders: Sequence[Contender], points: Iterable[Point], image: str
) -> list[Contender]:
    """One contender of each codec that coded the image, at the setting that it took there."""
    best = {(p.codec, p.setting) for p in better_settings([p for p in points if p.image == image])}
    return [c for c in contenders if (c.name, c.setting) in best and not c.times_only]


def gallery_entry(name: str, picture: Picture, contenders: Sequence[Contender]) -> dict[str, Any]:
    """One picture by every codec, each in as many bytes as the first mambaic model takes at
    ``GALLERY_QUALITY`` (or the first codec at its middle quality)."""
    leader = next((c for c in contenders if c.ours), contenders[0])
    quality = GALLERY_QUALITY if leader.ours else leader.qualities[len(leader.qualities) // 2]
    first = leader.encode(picture, quality)[0]
    box = _middle(picture)
    versions = [{"label": "original", "image": _embedded(to_pil(picture).crop(box))}]
    for contender in contenders:
        try:
            data = first if contender is leader else contender.encode_to_size(picture, len(first))
            decoded = contender.decode(data).convert("RGB")
        except MambaICError:
            continue  # qualities between those measured may fail where they did not
        versions.append(
            {
                "label": label_of(contender, picture, decoded, len(data)),
                "image": _embedded(decoded.crop(box)),
            }
        )
    return {
        "name": name,
        "width": box[2] - box[0],
        "height": box[3] - box[1],
        "versions": versions,
    }


def label_of(contender: Contender, picture: Picture, decoded: Image.Image, n_bytes: int) -> str:
    pixels = np.asarray(decoded)
    psnr, score = psnr_db(picture.pixels, pixels), ssimulacra2(picture.pixels, pixels)
    parts = [
        f"{contender.name} {contender.setting}".strip(),
        f"{bpp_from_bytes(n_bytes, *picture.size):.3f} bpp",
        f"{psnr:.2f} dB" if math.isfinite(psnr) else "exact",
    ]
    return ", ".join(parts if score is None else [*parts, f"SSIMULACRA2 {score:.1f}"])


def _middle(picture: Picture) -> tuple[int, int, int, int]:
    width, height = picture.size
    w, h = min(width, LONGEST_SIDE), min(height, LONGEST_SIDE)
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _embedded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def render(report: Report, plots: Mapping[str, bytes], gallery: Sequence[Mapping[str, Any]]) -> str:
    """HTML of a report; ``plots`` as ``draw`` gives them. Raises MissingPackage."""
    require("eval")
    import jinja2

    source = (resources.files("mambaic.evaluation") / "page.html.j2").read_text()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    images = [
        "data:image/svg+xml;base64," + base64.b64encode(plots[f"{stem}.svg"]).decode()
        for stem in stems(report)
    ]
    deltas, *rest = tables(report)
    return environment.from_string(source).render(
        notes=report.notes, deltas=deltas, rest=rest, gallery=gallery, plots=images
    )
