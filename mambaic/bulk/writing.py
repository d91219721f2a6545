"""Items become files and shards, whole or not at all, and lines of the manifest."""

from __future__ import annotations

import io
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

from mambaic.bulk.items import Item
from mambaic.bulk.manifest import Manifest
from mambaic.bulk.places import Place
from mambaic.errors import OutputError
from mambaic.imaging.atomic_files import reason

UPLOADS = 16  # at a time: a store answers late, and takes many at once


def write(
    items: Iterable[Item], place: Place, manifest: Manifest, *, force: bool
) -> Iterator[Item]:
    """Every item once it is where it belongs, or has failed. Members of a shard come one after
    another. Raises OutputError if the manifest cannot be written."""
    for shard, group in groupby(items, key=lambda item: item.shard):
        if shard:
            yield from _shard(group, place, shard, manifest, force)
        else:
            yield from _files(group, place, manifest, force)


def _files(
    items: Iterable[Item], place: Place, manifest: Manifest, force: bool
) -> Iterator[Item]:  # fmt: skip
    """Several uploads run at once; files of this machine are written one by one."""

    def put(item: Item) -> Item:
        if item.data is not None:
            try:
                place.write(item.target, item.data, force=force)
            except OutputError as exc:
                return item.failed(exc)
        return item.without_data()

    def ended(future: Future[Item]) -> Item:
        if (item := future.result()).error is not None:
            manifest.add([item])
        return item

    running: deque[Future[Item]] = deque()
    with ThreadPoolExecutor(1 if place.is_local else UPLOADS) as pool:
        for item in items:
            if item.error is None:
                manifest.add([item])
            running.append(pool.submit(put, item))
            while running and (len(running) > UPLOADS or running[0].done()):
                yield ended(running.popleft())
        yield from map(ended, running)


def _shard(
    items: Iterable[Item], place: Place, shard: str, manifest: Manifest, force: bool
) -> Iterator[Item]:  # fmt: skip
    """Pictures that failed are left out; a source that ended too early makes no shard."""
    held: list[Item] = []
    try:
        with place.part(shard) as part:
            _fill(part, items, held)
            held = [item for item in held if item.breaks_shard] or held
            manifest.add(held)
            if any(item.error is None for item in held):
                place.settle(part, shard, force=force)
    except OutputError as exc:
        held += [item.without_data() for item in items]  # coded for nothing
        held = [item.failed(exc) if item.error is None else item for item in held]
        manifest.add(held)
    yield from held


def _fill(part: Path, items: Iterable[Item], held: list[Item]) -> None:
    """Write the tar file, and put items into ``held`` as they come. Raises OutputError."""
    try:
        with part.open("wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
            for item in items:
                held.append(item.without_data())
                if item.data is not None:
                    info = tarfile.TarInfo(item.target)
                    info.size = len(item.data)
                    archive.addfile(info, io.BytesIO(item.data))
    except OSError as exc:
        raise OutputError(f"{part}: cannot be written: {reason(exc)}") from exc
