"""An evaluation run: every image through every codec at every quality, resumable at any point."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

from mambaic.errors import ConfigError, ImageError, OutputError
from mambaic.evaluation.measure import Contender, Point, measure
from mambaic.imaging.atomic_files import atomic_write
from mambaic.imaging.image import Picture, read_image

SETTINGS_FILE = "run.json"
POINTS_FILE = "points.jsonl"

Key = tuple[str, str, float]


class Run:
    """The folder of a report while it is being measured. Points are kept as soon as they exist."""

    def __init__(self, folder: Path, contenders: Sequence[Contender], *, resume: bool) -> None:
        self.folder = folder
        self.contenders = contenders
        self.unreadable: dict[str, str] = {}
        self._lock = threading.Lock()
        self._points: dict[Key, Point] = {}
        settings = {
            c.name: {"library": c.library, "qualities": list(c.qualities)} for c in contenders
        }
        self._open(settings, resume)

    def _open(self, settings: dict[str, Any], resume: bool) -> None:
        before = self.folder / SETTINGS_FILE
        if before.exists():
            if not resume:
                raise OutputError(
                    f"{self.folder}: holds a report already; use --resume, or another folder"
                )
            if json.loads(before.read_text())["codecs"] != settings:
                raise ConfigError(
                    f"{self.folder}: was begun with other codecs, qualities or versions: "
                    "start a new report"
                )
            for line in (self.folder / POINTS_FILE).read_text().splitlines():
                if line.endswith("}"):  # an interruption may have cut the last line
                    point = Point(**json.loads(line))
                    self._points[point.image, point.codec, point.quality] = point
            kept = "".join(json.dumps(asdict(p)) + "\n" for p in self._points.values())
            atomic_write(self.folder / POINTS_FILE, kept.encode(), force=True)
        else:
            atomic_write(self.folder / POINTS_FILE, b"", force=True)
            text = json.dumps({"codecs": settings}, indent=1) + "\n"
            atomic_write(before, text.encode())

    def measure(
        self, images: Sequence[tuple[str, Path]], jobs: int, on_point: Callable[[], None]
    ) -> list[Point]:
        """Points of all (name, path) images in order; images that cannot be read are in
        ``unreadable``, with the reason."""
        with (self.folder / POINTS_FILE).open("a") as log, ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(self._one, *image, log, on_point) for image in images]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        wanted = [
            (name, c.name, float(q))
            for c in self.contenders
            for name, _ in images
            for q in c.qualities
        ]
        return [self._points[key] for key in wanted if key in self._points]

    def _one(self, name: str, path: Path, log: TextIO, on_point: Callable[[], None]) -> None:
        todo = [
            (contender, float(quality))
            for contender in self.contenders
            for quality in contender.qualities
        ]
        missing = [t for t in todo if (name, t[0].name, t[1]) not in self._points]
        for _ in range(len(todo) - len(missing)):
            on_point()
        if not missing:
            return
        try:
            picture = plain(read_image(path))
        except ImageError as exc:
            with self._lock:
                self.unreadable[name] = str(exc)
            return
        for contender, quality in missing:
            point = measure(name, picture, contender, quality)
            with self._lock:
                self._points[name, contender.name, quality] = point
                log.write(json.dumps(asdict(point)) + "\n")
                log.flush()
            on_point()


def plain(picture: Picture) -> Picture:
    """RGB pixels alone: no codec is charged for metadata or alpha."""
    return replace(picture, gray=False, alpha=None, icc=b"", exif=b"", xmp=b"")
