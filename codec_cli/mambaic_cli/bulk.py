"""``mambaic bulk``"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mambaic.container.fields import MAX_PIXELS, TASTES
from mambaic.encoder.effort import DEFAULT_EFFORT
from mambaic.imaging.output_formats import FORMATS
from mambaic_cli.console import tell
from mambaic_cli.inputs import GivenPath
from mambaic_cli.streams import warn

if TYPE_CHECKING:
    from mambaic.bulk.coding import Task
    from mambaic.bulk.items import Item

MANIFEST = "manifest.jsonl"
ONLY_COMPRESSED = ("quality", "tune", "effort")


@click.command()
@click.argument("source", metavar="SRC", type=GivenPath())
@click.argument("target", metavar="DST", type=GivenPath())
@click.option("--decompress", is_flag=True, help="Turn .mbic files back into images.")
@click.option(
    "--to",
    "layout",
    type=click.Choice(["same", "files", "shards"]),
    default="same",
    show_default=True,
    help="same: shards stay shards, files stay files. files: also members of shards. shards: also files.",
)
@click.option(
    "--per-shard",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Files that --to shards packs into one.",
)
@click.option("--manifest", type=GivenPath(path_type=Path), help=f"[default: DST/{MANIFEST}]")
@click.option("--force", is_flag=True, help="Also what is there already, which is replaced.")
@click.option("-q", "--quality", type=click.FloatRange(0, 100), help="0 to 100 [default: 60].")
@click.option(
    "--tune",
    type=click.Choice(list(TASTES)),
    help="[default: eye; psnr if the model has no weights for it]",
)
@click.option("--effort", type=click.IntRange(1, 9), help=f"[default: {DEFAULT_EFFORT}]")
@click.option("--format", type=click.Choice(sorted(FORMATS)), help="Of images [default: png].")
@click.option("--model", help="Shipped name or checkpoint folder, the same on every machine.")
@click.option("--strip", is_flag=True, help="Leave out ICC, EXIF and XMP.")
@click.option("--max-pixels", type=click.IntRange(min=1), default=MAX_PIXELS, show_default=True)
@click.option("--address", help="Of a Ray cluster (auto for one on this machine); else starts one.")
@click.option("--workers", type=click.IntRange(min=1), help="[default: as many as there is room]")
@click.option(
    "--cpus",
    type=click.FloatRange(min=0, min_open=True),
    default=1,
    show_default=True,
    help="Cores of each worker.",
)
@click.option("--gpus", type=click.FloatRange(min=0), help="Of each worker [default: 1 if any].")
@click.option("--json", "as_json", is_flag=True, help="Lines of the manifest also on stdout.")
@click.option("--quiet", is_flag=True)
def command(source: str, target: str, **given: Any) -> int:
    """Compress or decompress all pictures of SRC to DST on Ray.

    SRC is a folder, a file or a glob, of pictures and tar shards; DST a folder; both may be URLs that
    fsspec knows (s3://bucket/folder). A second call does what is missing.
    """
    from mambaic.extras import require

    require("ray")
    task = _task(given)
    from mambaic.bulk.manifest import Manifest
    from mambaic.bulk.places import Place, sources
    from mambaic.bulk.plan import plan
    from mambaic.bulk.ray_data import Cluster, run
    from mambaic.bulk.writing import write

    place, names = sources(source)
    destination = Place(target)
    if given["manifest"] is None and not destination.is_local:
        raise click.UsageError("--manifest: name a file of this machine, as DST is elsewhere")
    if (place.path, place.protocols) == (destination.path, destination.protocols):
        raise click.UsageError("DST is SRC: name another folder")
    with Manifest(given["manifest"] or Path(destination.path, MANIFEST)) as manifest:
        units = plan(
            names,
            destination.names(),
            manifest.packed(),
            suffixes=task.suffixes,
            new_suffix=task.new_suffix,
            layout=given["layout"],
            per_shard=given["per_shard"],
            force=given["force"],
        )
        cluster = Cluster(**{name: given[name] for name in ("address", "workers", "cpus", "gpus")})
        items = run(units, place, task, cluster) if units else ()
        results = write(items, destination, manifest, force=given["force"])
        total = None if any(unit.is_shard for unit in units) else len(units)
        return _tell(results, total, manifest.path, given)


def _task(given: dict[str, Any]) -> Task:
    """Raises UsageError, CheckpointError."""
    chosen = {name for name in (*ONLY_COMPRESSED, "format") if given[name] is not None}
    if given["layout"] == "shards" and given["force"]:
        raise click.UsageError("--force would pack pictures twice: give another folder")
    from mambaic.bulk.coding import Compression, Decompression
    from mambaic.checkpoint import find

    if given["model"] is not None:
        find(given["model"])
    if given["decompress"]:
        if wrong := chosen & set(ONLY_COMPRESSED):
            raise click.UsageError(f"--{min(wrong)} is for compressing")
        return Decompression(
            model=given["model"],
            format=given["format"] or "png",
            strip=given["strip"],
            max_pixels=given["max_pixels"],
        )
    if "format" in chosen:
        raise click.UsageError("--format is for --decompress")
    from mambaic.encoder.options import EncodeOptions

    options = EncodeOptions(
        quality=60.0 if given["quality"] is None else given["quality"],
        tune=TASTES[given["tune"]] if given["tune"] else None,
        effort=given["effort"] or DEFAULT_EFFORT,
        strip=given["strip"],
    )
    model = given["model"] or "s"
    return Compression(model=model, options=options, max_pixels=given["max_pixels"])


def _tell(results: Iterable[Item], total: int | None, manifest: Path, given: dict[str, Any]) -> int:
    """What fails as it fails, and a summary; returns the exit code."""
    from tqdm import tqdm

    done, codes = 0, []
    hidden = given["quiet"] or sys.stderr is None or not sys.stderr.isatty()
    for item in tqdm(results, total=total, unit="file", disable=hidden, file=sys.stderr):
        with tqdm.external_write_mode(file=sys.stderr):
            if given["as_json"]:
                tell(json.dumps(item.line()))
            if item.error is None:
                done += 1
                continue
            codes.append(item.code)
            for row in f"{item.source}: {item.error.removeprefix(f'{item.source}: ')}".splitlines():
                warn(f"mambaic: {row}")
    if not given["quiet"] and not given["as_json"]:
        tell(f"{done} done, {len(codes)} failed: {manifest}")
    return 1 if 1 in codes else next(iter(codes), 0)
