"""The tables of a report, once, for Markdown and for the HTML page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mambaic.evaluation.curves import HIGH_SCORE, Curve
from mambaic.evaluation.equal_bytes import EqualBytes
from mambaic.evaluation.pictures import Duel
from mambaic.evaluation.quality_metrics import PSNR, SSIMULACRA2, Metric
from mambaic.evaluation.report import Report


@dataclass(frozen=True)
class Table:
    """Text, a row under each other's ``head``; ``note`` stands below ``title``."""

    title: str
    head: list[str]
    rows: list[list[str]]
    note: str = ""


def percent(value: float | None) -> str:
    return "no overlap" if value is None else f"{value:+.1f} %"


def tables(report: Report) -> list[Table]:
    """All of a report, in the order of reading."""
    found = [_deltas(report)]
    if report.duels:
        found.append(_pictures(report.duels))
    if report.at_equal_bytes:
        found.append(_at_equal_bytes(report.at_equal_bytes))
    found += [_figures(curve, report) for curve in report.measured.values()]
    if report.timed:
        found.append(_times(report))
    return found


def _deltas(report: Report) -> Table:
    metrics = [m for m in report.metrics if any(m.field in r["bd_rate"] for r in report.table)]
    columns: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        (f"by {m.name}", lambda row, m=m: _of(row["bd_rate"], m.field, percent))  # type: ignore[misc]
        for m in metrics
    ]
    if SSIMULACRA2 in metrics:
        title = f"by {SSIMULACRA2.name} from {HIGH_SCORE:g}"
        columns.append((title, lambda row: _of(row, "high_score", percent)))
    if PSNR in metrics:
        columns.append(("BD-PSNR", lambda row: _of(row, "bd_psnr", _decibels)))
        columns.append(("PSNR low / mid / high third", lambda row: _of(row, "thirds", _thirds)))
    rows = []
    for row in report.table:
        name = f"{row['codec']} (published)" if row["published"] else row["codec"]
        rows.append([name, *(text(row) for _, text in columns)])
    head = ["BD-rate", *(title for title, _ in columns)]
    return Table(
        f"Bjøntegaard figures against {report.anchor}", head, rows, "\n".join(_notes(report))
    )


def _notes(report: Report) -> list[str]:
    lines = []
    for codec, counts in report.chosen.items():
        took = ", ".join(f"{setting} on {count}" for setting, count in counts.items())
        lines.append(f"{codec}: the better chroma setting of each picture: {took}.")
    return lines


def _of(row: dict[str, Any], key: str, text: Callable[[Any], str]) -> str:
    return text(row[key]) if key in row else ""


def _decibels(value: float | None) -> str:
    return "no overlap" if value is None else f"{value:+.2f} dB"


def _thirds(values: Sequence[float | None]) -> str:
    return " / ".join(percent(value) for value in values)


def _pictures(found: Sequence[Duel]) -> Table:
    rows = [
        [
            duel.ours,
            duel.other,
            duel.metric.name,
            percent(duel.mean),
            f"{duel.share_lost:.0%} of {len(duel.bd_rates)}",
            f"{duel.worst[0]} {percent(duel.worst[1])}",
        ]
        for duel in found
    ]
    head = ["codec", "against", "at equal", "mean BD-rate", "needs more bytes on", "worst picture"]
    return Table("Picture by picture", head, rows)


def _at_equal_bytes(found: Sequence[EqualBytes]) -> Table:
    """A row for each codec and quality, by the metrics that people choose files by."""
    metrics = [m for m in (PSNR, SSIMULACRA2) if any(e.metric is m for e in found)]
    rows: dict[tuple[str, str, float], dict[str, EqualBytes]] = {}
    for e in found:
        rows.setdefault((e.ours, e.other, e.quality), {})[e.metric.field] = e
    head = ["codec", "against", "quality"]
    for metric in metrics:
        head += [f"{metric.name}, mean", "worse on", "worst picture"]
    return Table(
        "Picture by picture, at equal bytes",
        head,
        [
            [ours, other, f"{quality:g}", *(c for m in metrics for c in _equal(by.get(m.field)))]
            for (ours, other, quality), by in rows.items()
        ],
        "Ours at a quality less the other codec in as many bytes, interpolated between its files; "
        "pictures whose bytes none of its files surround are not counted.",
    )


def _equal(entry: EqualBytes | None) -> list[str]:
    if entry is None:
        return [""] * 3
    unit = " dB" if entry.metric is PSNR else ""
    name, worst = entry.worst
    share = f"{entry.share_lost:.0%} of {len(entry.differences)}"
    return [f"{entry.mean:+.2f}{unit}", share, f"{name} {worst:+.2f}{unit}"]


def _figures(curve: Curve, report: Report) -> Table:
    metrics = [m for m in report.metrics if curve.has(m)]
    rows = [
        [
            f"{quality:g}",
            f"{curve.bpp[i]:.4f}",
            *(_number(curve, m, i) for m in metrics),
            f"{curve.encode_s[i]:.3f}",
            f"{curve.decode_s[i]:.3f}",
        ]
        for i, quality in enumerate(curve.qualities)
    ]
    names = [f"{m.name} dB" if m is PSNR else m.name for m in metrics]
    head = ["quality", "bpp", *names, "encode s", "decode s"]
    note = f"{report.libraries[curve.name]}; means over {curve.images} images"
    return Table(curve.name, head, rows, note)


def _number(curve: Curve, metric: Metric, index: int) -> str:
    return f"{curve.mean(metric)[index]:.{metric.decimals}f}"


def _times(report: Report) -> Table:
    """Seconds per image of all codecs in this process, from the fastest to the slowest quality."""
    rows = []
    for curve in [*report.measured.values(), *report.timed.values()]:
        ranges = [f"{min(t):.3f} to {max(t):.3f}" for t in (curve.encode_s, curve.decode_s)]
        rows.append([curve.name, *ranges])
    return Table("Time of a picture", ["codec", "encode s", "decode s"], rows,
                 f"{report.threads} threads of torch; other libraries use theirs.")  # fmt: skip


def markdown(report: Report) -> str:
    """The report as a person reads it in a terminal."""
    parts = []
    for table in tables(report):
        lines = [f"**{table.title}**", ""]
        if table.note:
            lines += [table.note, ""]
        lines += [_line(table.head), "|" + "---|" * len(table.head)]
        lines += [_line(row) for row in table.rows]
        parts.append("\n".join(lines))
    if report.notes:
        parts.append("\n".join(f"- {note}" for note in report.notes))
    return "\n\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
