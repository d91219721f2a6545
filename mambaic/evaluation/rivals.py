"""The codecs ours is measured beside: maintained packages, recorded settings, real files."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import PIL
from PIL import Image, features


@dataclass(frozen=True)
class Rival:
    """One codec through Pillow: encoder options of a quality, and the library behind it.
    ``setting`` tells apart the ways of one codec of which every picture takes the better."""

    name: str
    format: str
    options: Callable[[float], dict[str, Any]]
    qualities: tuple[float, ...]
    library: str
    setting: str = ""
    missing: str = ""  # why it cannot run here

    def encode(self, image: Image.Image, quality: float) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, self.format, **self.options(quality))
        return buffer.getvalue()

    def decode(self, data: bytes) -> Image.Image:
        image = Image.open(io.BytesIO(data))
        image.load()
        return image.convert("RGB")


def _version(feature: str) -> str:
    return f"{feature} {features.version(feature) or 'unknown'}, Pillow {PIL.__version__}"


def _jpeg(quality: float) -> dict[str, Any]:
    return {"quality": round(quality), "optimize": True, "progressive": True}


def _webp(quality: float) -> dict[str, Any]:
    return {"quality": round(quality), "method": 6}


def _jpeg2000(quality: float) -> dict[str, Any]:
    return {"quality_mode": "dB", "quality_layers": [quality], "irreversible": True, "mct": 1}


def _avif(subsampling: str) -> Rival:
    built = features.check("avif")
    return Rival(
        "avif",
        "AVIF",
        lambda q: {"quality": round(q), "speed": 4, "subsampling": subsampling},
        (10, 25, 40, 58, 75, 86, 93, 97, 100),
        f"{_version('avif')}, speed 4, chroma 4:2:0 or 4:4:4" if built else "",
        setting=subsampling,
        missing="" if built else "this Pillow was built without AVIF",
    )


def _jxl() -> Rival:
    try:
        import pillow_jxl  # noqa: F401  (registers the format)

        library, missing = f"pillow-jxl-plugin {version('pillow-jxl-plugin')}, effort 7", ""
    except ImportError:
        library, missing = "", "pip install 'mambaic[jxl]'"
    return Rival(
        "jxl", "JXL", lambda q: {"quality": round(q), "effort": 7}, (10, 30, 50, 70, 85, 95, 99),
        library, missing=missing,
    )  # fmt: skip


def rivals() -> list[Rival]:
    """All rivals, AVIF once for each chroma setting; those that cannot run here say why."""
    j2k = "" if features.check("jpg_2000") else "this Pillow was built without JPEG 2000"
    return [
        Rival("jpeg", "JPEG", _jpeg, (5, 15, 35, 65, 85, 95),
              f"{_version('jpg')}, progressive, chroma 4:2:0"),
        Rival("webp", "WEBP", _webp, (1, 20, 45, 70, 88, 97),
              f"{_version('webp')}, method 6"),
        _avif("4:2:0"),
        _avif("4:4:4"),
        Rival("jpeg2000", "JPEG2000", _jpeg2000, (26, 29, 32, 35, 38, 42),
              _version("jpg_2000") if not j2k else "", missing=j2k),
        _jxl(),
    ]  # fmt: skip
