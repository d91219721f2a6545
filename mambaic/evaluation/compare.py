"""How two reports' curves of a codec differ: before and after a change."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambaic.errors import ConfigError
from mambaic.evaluation.quality_metrics import METRICS, PSNR, Metric
from mambaic.evaluation.tables import percent
from mambaic.imaging.metrics import bd_rate


def compare(first: Path, second: Path) -> str:
    """BD-rates of ``second`` against ``first`` (codec JSON files of reports), by each metric that
    both have, in all and per image, the worst by PSNR first.

    Raises ConfigError if a file is not such a report.
    """
    a, b = (_load(path) for path in (first, second))
    metrics = [m for m in METRICS if m.key in a["results"] and m.key in b["results"]]
    rows = {f"all: {second} against {first}": (a["results"], b["results"])}
    common = [name for name in a["images"] if name in b["images"]]
    pairs = {name: (a["images"][name], b["images"][name]) for name in common}
    order = {name: _between(*pair, PSNR) for name, pair in pairs.items()}
    rows |= {n: pairs[n] for n in sorted(common, key=lambda n: -_or(order[n], -math.inf))}
    lines = ["".join(f"{m.name:>14}" for m in metrics)]
    for name, pair in rows.items():
        lines.append("".join(f"{percent(_between(*pair, m)):>14}" for m in metrics) + f"  {name}")
    for label, (one, other) in {"first": (a, b), "second": (b, a)}.items():
        alone = sorted(set(one["images"]) - set(other["images"]))
        if alone:
            lines.append(f"only in the {label}: {', '.join(alone)}")
    return "\n".join(lines)


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _between(a: Mapping[str, Any], b: Mapping[str, Any], metric: Metric) -> float | None:
    lines = []
    for entry in (a, b):
        if metric.key not in entry:
            return None
        values = [math.nan if v is None else metric.of_mean(v) for v in entry[metric.key]]
        lines.append((entry["bpp"], values))
    return bd_rate(*lines)


def _load(path: Path) -> dict[str, Any]:
    try:
        content = dict(json.loads(path.read_text()))
        if not {"results", "images"} <= set(content):
            raise ValueError("no results per image in it")
    except (OSError, ValueError, TypeError) as exc:
        raise ConfigError(f"{path}: not a codec's JSON file of a report: {exc}") from exc
    return content
