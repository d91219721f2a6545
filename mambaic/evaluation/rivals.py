"""The codecs ours is measured beside: maintained packages, recorded settings, real files."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import PIL
from PIL import Image, features


@dataclass(frozen=True)
class Rival:
    """One codec through Pillow: encoder options of a quality, and the library behind it."""

    name: str
    format: str
    settings: Callable[[float], dict[str, Any]]
    qualities: tuple[float, ...]
    library: str
    missing: str = ""  # why it cannot run here

    def encode(self, image: Image.Image, quality: float) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, self.format, **self.settings(quality))
        return buffer.getvalue()

    def decode(self, data: bytes) -> Image.Image:
        image = Image.open(io.BytesIO(data))
        image.load()
        return image.convert("RGB")


def _version(feature: str) -> str:
    return f"{feature} {features.version(feature) or 'unknown'}, Pillow {PIL.__version__}"


def _jxl() -> Rival:
    try:
        import pillow_jxl

        library, missing = f"pillow-jxl-plugin {getattr(pillow_jxl, '__version__', '')}", ""
    except ImportError:
        library, missing = "", "pip install 'mambaic[jxl]'"
    return Rival(
        "jxl", "JXL", lambda q: {"quality": round(q), "effort": 7}, (10, 25, 40, 55, 70, 85, 95),
        library, missing,
    )  # fmt: skip


def rivals() -> dict[str, Rival]:
    """All rivals by name; those that cannot run here say why."""
    avif = "" if features.check("avif") else "this Pillow was built without AVIF"
    j2k = "" if features.check("jpg_2000") else "this Pillow was built without JPEG 2000"
    found = [
        Rival(
            "jpeg", "JPEG", lambda q: {"quality": round(q), "optimize": True, "progressive": True},
            (5, 10, 20, 35, 50, 65, 80, 90, 95), _version("jpg"),
        ),
        Rival(
            "webp", "WEBP", lambda q: {"quality": round(q), "method": 6},
            (1, 10, 25, 45, 60, 75, 85, 92, 97), _version("webp"),
        ),
        Rival(
            "avif", "AVIF", lambda q: {"quality": round(q), "speed": 4, "subsampling": "4:4:4"},
            (10, 20, 30, 45, 55, 65, 75, 85, 92), _version("avif") if not avif else "", avif,
        ),
        Rival(
            "jpeg2000", "JPEG2000",
            lambda q: {"quality_mode": "dB", "quality_layers": [q], "irreversible": True, "mct": 1},
            (26, 28, 30, 32, 34, 36, 38, 40, 42), _version("jpg_2000"), j2k,
        ),
        _jxl(),
    ]  # fmt: skip
    return {rival.name: rival for rival in found}
