"""Packages that only some need: ``pip install 'mambaic[EXTRA]'``. Coding pictures needs none."""

from __future__ import annotations

from importlib.util import find_spec

from mambaic.errors import MissingPackage

# as they are imported; pyproject.toml says which versions
EXTRAS = {
    "train": ("psutil", "pytorch_msssim", "tensorboard"),
    "eval": ("bjontegaard", "jinja2", "matplotlib", "pytorch_msssim"),
    "compressai": ("compressai",),
    "cvvdp": ("pycvvdp",),
    "jxl": ("pillow_jxl",),
    "ray": ("pyarrow", "ray"),
}


def require(extra: str) -> None:
    """To be called before a package of an extra is imported. Raises MissingPackage."""
    if missing := [module for module in EXTRAS[extra] if find_spec(module) is None]:
        names = " and ".join(missing)
        raise MissingPackage(f"{names} not installed: pip install 'mambaic[{extra}]'")
