"""Rate-distortion and time plots of an evaluation, as PNG and SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mambaic.evaluation.quality_metrics import METRICS, PSNR, Metric
from mambaic.evaluation.report import Report
from mambaic.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HIGHEST_BPP = 2.2  # of the plots; above it pictures differ in figures only
TIMES = {"encode-time": "encoding time (s per image)", "decode-time": "decoding time (s per image)"}


def stems(report: Report) -> list[str]:
    """Names of the plots of a report, without suffix."""
    return [*(_stem(metric) for metric in report.metrics), *TIMES]


def _stem(metric: Metric) -> str:
    return "rd-" + metric.key.removesuffix("-rgb")


def draw(report: Report) -> dict[str, bytes]:
    """{file name: content}. Published curves are dashed and only in the PSNR plot.

    Raises MissingPackage.
    """
    require("eval")
    files: dict[str, bytes] = {}
    for metric in METRICS:
        if metric in report.metrics:
            files |= _plot(report, _stem(metric), metric)
    for stem in TIMES:
        files |= _plot(report, stem, None)
    return files


def _plot(report: Report, stem: str, metric: Metric | None) -> dict[str, bytes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    if metric is not None:
        _distortions(axes, report, metric)
    else:
        _times(axes, report, stem)
    highest = max((max(c.bpp) for c in report.measured.values()), default=1.0)
    axes.set_xlim(0, min(highest, HIGHEST_BPP) * 1.02)
    axes.set_xlabel("rate (bits per pixel, of files)")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)
    files = {}
    for suffix in ("png", "svg"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, dpi=140)
        files[f"{stem}.{suffix}"] = buffer.getvalue()
    return files


def _distortions(axes: Axes, report: Report, metric: Metric) -> None:
    axes.set_ylabel(metric.axis)
    lines = {c.name: c.line(metric) for c in report.measured.values() if c.has(metric)}
    for name, line in lines.items():
        _line(axes, name, *line)
    if metric is PSNR:
        for name, entry in report.known.items():
            axes.plot(entry["bpp"], entry["psnr"], "--", lw=1, label=f"{name} (published)")
    # the axis fits the part of the curves that the plot shows
    seen = [y for line in lines.values() for x, y in zip(*line, strict=True) if x <= HIGHEST_BPP]
    if seen:
        margin = 0.04 * (max(seen) - min(seen)) + 1e-6
        axes.set_ylim(min(seen) - margin, max(seen) + margin)


def _times(axes: Axes, report: Report, stem: str) -> None:
    """Codecs of which the times alone count are level lines: their rate means nothing."""
    axes.set_ylabel(TIMES[stem])
    axes.set_yscale("log")
    for found in report.measured.values():
        seconds = found.encode_s if stem == "encode-time" else found.decode_s
        _line(axes, found.name, found.bpp, seconds)
    for index, found in enumerate(report.timed.values()):
        seconds = found.encode_s if stem == "encode-time" else found.decode_s
        for position, value in enumerate(seconds):
            label = found.name if position == 0 else None
            axes.axhline(value, ls=":", lw=1, color=f"C{7 + index}", label=label)


def _line(axes: Axes, name: str, x: Sequence[float], y: Sequence[float]) -> None:
    width = 2.4 if name.startswith("mbic") else 1.2
    axes.plot(x, y, marker="o", ms=3, lw=width, label=name)
