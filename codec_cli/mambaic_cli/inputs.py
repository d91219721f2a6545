"""Which files the names on a command line stand for."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mambaic.errors import ImageError
from mambaic.imaging.atomic_files import reason
from mambaic.imaging.suffixes import MAC_FOLDER, MAC_PREFIX


class GivenPath(click.Path):
    """A path that is not empty, as that of an unset variable is: ``Path("")`` is this folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("the name is empty: is a variable unset?", param, ctx)
        return super().convert(value, param, ctx)


@dataclass(frozen=True)
class Found:
    """A file, its path below what was named, and why it cannot be worked on."""

    path: Path
    below: Path
    problem: ImageError | None = None


def expand(name: str, suffixes: set[str]) -> list[Found]:
    """Files of a file's name, a folder (with those in it, whose tree is kept) or a glob."""
    if os.path.isdir(name):
        return _inside(Path(name), suffixes)
    if glob.has_magic(name) and not os.path.lexists(name):
        matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
        if not matches:
            return [_failed(Path(name), "no file of such a name")]
        return [Found(match, Path(match.name)) for match in matches if not match.is_dir()]
    return [Found(Path(name), Path(Path(name).name))]


def _inside(folder: Path, suffixes: set[str]) -> list[Found]:
    files: list[Path] = []
    problems: list[Found] = []

    def unreadable(exc: OSError) -> None:
        problems.append(_failed(Path(exc.filename), f"cannot be read: {exc.strerror}"))

    for place, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if name != MAC_FOLDER]
        files += [
            Path(place, name)
            for name in names
            if os.path.splitext(name)[1].lower() in suffixes and not name.startswith(MAC_PREFIX)
        ]
    found = [Found(file, file.relative_to(folder)) for file in sorted(files) if file.is_file()]
    if not found and not problems:
        kinds = "/".join(sorted(suffixes))
        return [_failed(folder, f"no {kinds} file in this folder")]
    return found + problems


def _failed(path: Path, why: str) -> Found:
    return Found(path, Path(path.name), ImageError(f"{path}: {why}"))


def read_file(path: Path) -> bytes:
    """Raises ImageError."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as exc:
        raise ImageError(f"{path}: cannot be read: {reason(exc)}") from exc
