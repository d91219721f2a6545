"""Rate-distortion and time plots of an evaluation, as PNG and SVG."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mambaic.evaluation.curves import Curve
from mambaic.extras import require


def to_db(ms_ssim: list[float]) -> np.ndarray:
    """MS-SSIM as -10 log10(1 - m)."""
    return np.asarray(-10 * np.log10(np.maximum(1e-9, 1 - np.asarray(ms_ssim))))


PANELS: dict[str, tuple[str, Callable[[Curve], Any]]] = {
    "rd-psnr": ("PSNR-RGB (dB)", lambda c: c.psnr_db),
    "rd-ms-ssim": ("MS-SSIM (dB)", lambda c: to_db(c.ms_ssim)),
    "encode-time": ("encoding time (s per image)", lambda c: c.encode_s),
    "decode-time": ("decoding time (s per image)", lambda c: c.decode_s),
}


def draw(measured: Mapping[str, Curve], known: Mapping[str, dict[str, Any]]) -> dict[str, bytes]:
    """{file name: content}. Published curves are dashed and only in the PSNR plot.

    Raises MissingPackage.
    """
    require("eval")
    from matplotlib.figure import Figure

    files = {}
    highest = max((max(c.bpp) for c in measured.values()), default=1.0)
    for stem, (label, values) in PANELS.items():
        figure = Figure(figsize=(7, 5), layout="constrained")
        axes = figure.add_subplot()
        for found in measured.values():
            width = 2.4 if found.name.startswith("mbic") else 1.2
            y = np.asarray(values(found))
            if not np.isnan(y).any():
                axes.plot(found.bpp, y, marker="o", ms=3, lw=width, label=found.name)
        if stem == "rd-psnr":
            for name, entry in known.items():
                axes.plot(entry["bpp"], entry["psnr"], "--", lw=1, label=f"{name} (published)")
        if stem.endswith("time"):
            axes.set_yscale("log")
        axes.set_xlabel("rate (bits per pixel, of files)")
        axes.set_ylabel(label)
        axes.set_xlim(0, min(highest, 2.2) * 1.02)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
        for suffix in ("png", "svg"):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, dpi=140)
            files[f"{stem}.{suffix}"] = buffer.getvalue()
    return files
