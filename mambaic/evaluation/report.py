"""A finished evaluation on disk: JSON in CompressAI's layout, CSV, tables, plots, one HTML page."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from mambaic.errors import ConfigError
from mambaic.evaluation.curves import VTM, Curve, curves, delta_table, published
from mambaic.evaluation.measure import Point
from mambaic.evaluation.plots import draw
from mambaic.imaging.atomic_files import atomic_write
from mambaic.imaging.metrics import bd_rate

# keys of CompressAI's results/ files and what they hold here
KEYS = {
    "bpp": "bpp",
    "psnr-rgb": "psnr_db",
    "ms-ssim-rgb": "ms_ssim",
    "encoding_time": "encode_s",
    "decoding_time": "decode_s",
}


def write_report(
    folder: Path, points: Sequence[Point], libraries: Mapping[str, str], anchor: str | None
) -> list[dict[str, Any]]:
    """Everything but the HTML page. Returns the BD table; its anchor is ``anchor``, else VTM-18.0
    where it is published for these images, else the first codec that is not ours."""
    measured = curves(points)
    known = published({p.image for p in points})
    anchor = pick_anchor(measured, known, anchor)
    for name, found in measured.items():
        content = json.dumps(compressai_json(found, points, libraries[name]), indent=1) + "\n"
        atomic_write(folder / f"{name}.json", content.encode(), force=True)
    atomic_write(folder / "points.csv", csv_of(points).encode(), force=True)
    table = delta_table(measured, known, anchor)
    content = json.dumps({"anchor": anchor, "rows": table}, indent=1) + "\n"
    atomic_write(folder / "bd.json", content.encode(), force=True)
    atomic_write(folder / "report.md", markdown(measured, table, anchor).encode(), force=True)
    for name, data in draw(measured, known).items():
        atomic_write(folder / name, data, force=True)
    return table


def pick_anchor(measured: Mapping[str, Curve], known: Mapping[str, Any], anchor: str | None) -> str:
    """Name of the curve that BD figures refer to. Raises ConfigError if there is none such."""
    choices = [*known, *measured]
    if anchor is not None and anchor not in choices:
        raise ConfigError(f"anchor {anchor!r} is not one of {', '.join(choices)}")
    if anchor is None and VTM not in known:
        return next((name for name in measured if not name.startswith("mbic")), choices[0])
    return anchor or VTM


def compressai_json(found: Curve, points: Sequence[Point], library: str) -> dict[str, Any]:
    """Averages as CompressAI's ``results/`` files have them, and the same per image."""
    images: dict[str, dict[str, list[Any]]] = {}
    for quality in found.qualities:
        for point in points:
            if point.codec == found.name and point.quality == quality:
                entry = images.setdefault(point.image, {key: [] for key in KEYS})
                for key, field in KEYS.items():
                    entry[key].append(getattr(point, field))
    results = {key: getattr(found, field) for key, field in KEYS.items()}
    complete = {k: v for k, v in results.items() if not any(math.isnan(x) for x in v)}
    return {
        "name": found.name,
        "description": library,
        "qualities": found.qualities,
        "results": complete,
        "images": images,
    }


def csv_of(points: Sequence[Point]) -> str:
    """One line per image, codec and quality."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [field.name for field in fields(Point)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(point) for point in points)
    return buffer.getvalue()


def percent(value: float | None) -> str:
    return "no overlap" if value is None else f"{value:+.1f} %"


def markdown(measured: Mapping[str, Curve], table: Sequence[Mapping[str, Any]], anchor: str) -> str:
    """The tables as a person reads them."""
    similar = any("bd_rate_ms_ssim" in row for row in table)
    lines = [
        f"| codec | BD-rate against {anchor} | BD-PSNR | low / mid / high third |"
        + " at equal MS-SSIM |" * similar
    ]
    lines += ["|---|---|---|---|" + "---|" * similar]
    for row in table:
        psnr = "no overlap" if row["bd_psnr"] is None else f"{row['bd_psnr']:+.2f} dB"
        thirds = " / ".join(percent(v) for v in row["thirds"])
        name = f"{row['codec']} (published)" if row["published"] else row["codec"]
        line = f"| {name} | {percent(row['bd_rate'])} | {psnr} | {thirds} |"
        if similar:
            known = "bd_rate_ms_ssim" in row
            line += f" {percent(row['bd_rate_ms_ssim']) if known else ''} |"
        lines.append(line)
    for found in measured.values():
        lines += ["", f"**{found.name}**, {found.images} images", ""]
        lines += ["| quality | bpp | PSNR dB | MS-SSIM | encode s | decode s |"]
        lines += ["|---|---|---|---|---|---|"]
        for index, quality in enumerate(found.qualities):
            lines.append(
                f"| {quality:g} | {found.bpp[index]:.4f} | {found.psnr_db[index]:.3f} | "
                f"{found.ms_ssim[index]:.4f} | {found.encode_s[index]:.3f} | "
                f"{found.decode_s[index]:.3f} |"
            )
    return "\n".join(lines) + "\n"


def compare(first: Path, second: Path) -> str:
    """How two runs (codec JSON files of reports) differ, in all and per image.

    Raises ConfigError if a file is not such a report.
    """
    a, b = (_load(path) for path in (first, second))
    overall = percent(_between(a["results"], b["results"]))
    lines = [f"BD-rate of {second} against {first}: {overall}"]
    common = [name for name in a["images"] if name in b["images"]]
    rows = [(name, _between(a["images"][name], b["images"][name])) for name in common]
    rows.sort(key=lambda row: (row[1] is None, -(row[1] or 0.0)))
    lines += [f"{name:40} {percent(value)}" for name, value in rows]
    for label, (one, other) in {"first": (a, b), "second": (b, a)}.items():
        alone = sorted(set(one["images"]) - set(other["images"]))
        if alone:
            lines.append(f"only in the {label}: {', '.join(alone)}")
    return "\n".join(lines)


def _between(a: Mapping[str, list[float]], b: Mapping[str, list[float]]) -> float | None:
    return bd_rate((a["bpp"], a["psnr-rgb"]), (b["bpp"], b["psnr-rgb"]))


def _load(path: Path) -> dict[str, Any]:
    try:
        content = dict(json.loads(path.read_text()))
        if not {"results", "images"} <= set(content):
            raise ValueError("no results per image in it")
    except (OSError, ValueError, TypeError) as exc:
        raise ConfigError(f"{path}: not a codec's JSON file of a report: {exc}") from exc
    return content
