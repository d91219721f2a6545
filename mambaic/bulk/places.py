"""Folders that fsspec knows: of this machine, or by URL (s3://, gs://, hdfs:// and so on)."""

from __future__ import annotations

import contextlib
import glob
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from mambaic.errors import ConfigError, ImageError, MissingPackage, OutputError
from mambaic.imaging.atomic_files import atomic_write, reason, settle, unfinished

# an object appears when all of it has arrived; elsewhere files are moved to their names
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "memory"}


class Place:
    """A folder. It may be pickled."""

    def __init__(self, url: str) -> None:
        """Raises MissingPackage if a package for such URLs is not installed, ConfigError if there
        are no such URLs."""
        from fsspec.core import url_to_fs

        self.url = url
        try:
            self.files, path = url_to_fs(url)
        except ImportError as exc:
            raise MissingPackage(f"{url}: {exc}") from exc
        except ValueError as exc:
            raise ConfigError(f"{url}: {exc}") from exc
        self.path = str(path).rstrip("/")
        names = self.files.protocol
        self.protocols = {names} if isinstance(names, str) else set(names)
        self.is_local = "file" in self.protocols

    def at(self, name: str) -> str:
        """Path of a file below, for ``self.files``."""
        return f"{self.path}/{name}"

    def names(self) -> set[str]:
        """Of all files below; none if there is no such folder. Raises ImageError."""
        try:
            found = self.files.find(self.path)
        except FileNotFoundError:
            return set()
        except (OSError, ValueError) as exc:
            raise ImageError(f"{self.url}: cannot be listed: {reason(exc)}") from exc
        return {self._below(path) for path in found}

    def _below(self, path: str) -> str:
        return str(path).removeprefix(self.path).lstrip("/")

    def open(self, name: str) -> IO[bytes]:
        """To be read. Raises whatever the file system does."""
        file: IO[bytes] = self.files.open(self.at(name), "rb")
        return file

    def write(self, name: str, data: bytes, *, force: bool) -> None:
        """Whole or not at all. Raises OutputError."""
        if self.is_local:
            return atomic_write(self.at(name), data, force=force)
        with self._appearing(name, force) as path:
            self.files.pipe_file(path, data)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[Path]:
        """A file of this machine for ``settle`` to make ``name`` of; gone at the end."""
        target = Path(self.at(name))
        folder = target.parent if self.is_local else Path(tempfile.gettempdir())
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise OutputError(f"{self.at(name)}: cannot be written: {reason(exc)}") from exc
        with unfinished(folder / f".mambaic-{secrets.token_hex(8)}.part") as part:
            yield part

    def settle(self, part: Path, name: str, *, force: bool) -> None:
        """``name`` appears with the content of ``part``. Raises OutputError."""
        if self.is_local:
            return settle(part, Path(self.at(name)), force=force)
        with self._appearing(name, force) as path:
            self.files.put_file(str(part), path)

    @contextlib.contextmanager
    def _appearing(self, name: str, force: bool) -> Iterator[str]:
        """Path to write to, away from this machine."""
        target = self.at(name)
        try:
            if not force and self.files.exists(target):
                raise OutputError(f"{target}: exists already; use --force to replace it")
            self.files.makedirs(str(PurePosixPath(target).parent), exist_ok=True)
            if self.protocols & OBJECT_STORES:
                yield target
                return
            part = f"{target}.mambaic-{secrets.token_hex(8)}.part"
            try:
                yield part
                self.files.mv(part, target)
            except BaseException:
                with contextlib.suppress(OSError):
                    self.files.rm_file(part)
                raise
        except (OSError, ValueError) as exc:
            raise OutputError(f"{target}: cannot be written: {reason(exc)}") from exc


def sources(url: str) -> tuple[Place, set[str]]:
    """(folder, names of the files below it) of a folder, a file or a glob. Raises ImageError."""
    place = Place(url)
    files: Any = place.files
    try:
        if glob.has_magic(place.path) and not files.exists(place.path):
            found = [path for path in files.glob(place.path) if not files.isdir(path)]
            root = place.path[: glob.magic_check.search(place.path).start()].rpartition("/")[0]  # type: ignore[attr-defined]
        elif files.isfile(place.path):
            root, found = place.path.rpartition("/")[0], [place.path]
        elif files.isdir(place.path):
            return place, place.names()
        else:
            found = []
    except (OSError, ValueError) as exc:
        raise ImageError(f"{url}: cannot be read: {reason(exc)}") from exc
    if not found:
        raise ImageError(f"{url}: no such file or folder")
    place.path = root
    return place, {place._below(path) for path in found}
