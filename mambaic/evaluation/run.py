"""An evaluation run: every image through every codec at every quality, resumable at any point."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

from mambaic.errors import ConfigError, ImageError, MambaICError, OutputError
from mambaic.evaluation.contenders import Contender
from mambaic.evaluation.measure import Point, measure
from mambaic.evaluation.quality_metrics import Metric
from mambaic.imaging.atomic_files import atomic_write
from mambaic.imaging.image import Picture, read_image

SETTINGS_FILE = "run.json"
POINTS_FILE = "points.jsonl"

Key = tuple[str, str, str, float]  # image, codec, setting, quality


def _encodable(text: str) -> str:
    """``text`` with what no encoding can write, such as bytes of a file's name, spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


class Run:
    """The folder of a report while it is being measured. Points are kept as soon as they exist.

    ``unreadable``: {image: reason}; ``failures``: {(image, codec): reason} of pictures that a
    codec could not code, which are tried again when the run is resumed.
    """

    def __init__(
        self,
        folder: Path,
        contenders: Sequence[Contender],
        metrics: Sequence[Metric],
        *,
        resume: bool,
    ) -> None:
        self.folder = folder
        self.contenders = contenders
        self.metrics = metrics
        self.unreadable: dict[str, str] = {}
        self.failures: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()
        self._points: dict[Key, Point] = {}
        codecs = {
            f"{c.name} {c.setting}".strip(): {"library": c.library, "qualities": list(c.qualities)}
            for c in contenders
        }
        self._open({"codecs": codecs, "metrics": [m.field for m in metrics]}, resume)

    def _open(self, settings: dict[str, Any], resume: bool) -> None:
        before = self.folder / SETTINGS_FILE
        if before.exists():
            if not resume:
                raise OutputError(
                    f"{self.folder}: holds a report already; use --resume, or another folder"
                )
            if json.loads(before.read_text()) != settings:
                raise ConfigError(
                    f"{self.folder}: was begun with other codecs, qualities, metrics or versions: "
                    "start a new report"
                )
            for line in (self.folder / POINTS_FILE).read_text().splitlines():
                if line.endswith("}"):  # an interruption may have cut the last line
                    self._keep(Point(**json.loads(line)))
            kept = "".join(_json_line(point) for point in self._points.values())
            atomic_write(self.folder / POINTS_FILE, kept.encode(), force=True)
        else:
            atomic_write(self.folder / POINTS_FILE, b"", force=True)
            atomic_write(before, (json.dumps(settings, indent=1) + "\n").encode())

    def _keep(self, point: Point) -> None:
        self._points[point.image, point.codec, point.setting, point.quality] = point

    def measure(
        self, images: Sequence[tuple[str, Path]], jobs: int, on_point: Callable[[], None]
    ) -> list[Point]:
        """Points of all (name, path) images in order, without those of ``unreadable`` images and
        of ``failures``."""
        with (self.folder / POINTS_FILE).open("a") as log, ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(self._one, *image, log, on_point) for image in images]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        wanted = [key for c in self.contenders for name, _ in images for key in _keys(name, c)]
        return [self._points[key] for key in wanted if key in self._points]

    def _one(self, name: str, path: Path, log: TextIO, on_point: Callable[[], None]) -> None:
        todo = []
        for contender in self.contenders:
            missing = [key for key in _keys(name, contender) if key not in self._points]
            for _ in range(len(contender.qualities) - len(missing)):
                on_point()
            if missing:
                todo.append((contender, missing))
        if not todo:
            return
        try:
            picture = plain(read_image(path))
        except ImageError as exc:
            with self._lock:
                self.unreadable[name] = _encodable(str(exc))
            return
        for contender, missing in todo:
            try:
                for *_, quality in missing:
                    self._log(measure(name, picture, contender, quality, self.metrics), log)
                    on_point()
            except MambaICError as exc:
                with self._lock:
                    self.failures[name, contender.name] = _encodable(str(exc))

    def _log(self, point: Point, log: TextIO) -> None:
        with self._lock:
            self._keep(point)
            log.write(_json_line(point))
            log.flush()


def _keys(image: str, contender: Contender) -> list[Key]:
    return [(image, contender.name, contender.setting, float(q)) for q in contender.qualities]


def _json_line(point: Point) -> str:
    return json.dumps(asdict(point), allow_nan=False) + "\n"


def plain(picture: Picture) -> Picture:
    """RGB pixels alone: no codec is charged for metadata or alpha."""
    return replace(picture, gray=False, alpha=None, icc=b"", exif=b"", xmp=b"")
