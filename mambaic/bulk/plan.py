"""What is to be done: which pictures and shards become which files and members."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import PurePosixPath
from typing import Literal

from mambaic.errors import OutputError
from mambaic.imaging.suffixes import is_mac_companion, tell_apart

SHARD = ".tar"
PACKED = "shard-{:06d}.tar"
PACKED_NAME = re.compile(r"shard-(\d{6,})\.tar")
Layout = Literal["same", "files", "shards"]


@dataclass(frozen=True)
class Unit:
    """What one reader opens: a picture, or a shard of them.

    A shard's members become members of ``shard``, or files below the folder ``target``, of which
    those ``there`` are not made again.
    """

    name: str  # below SRC
    target: str
    shard: str = ""
    there: frozenset[str] = frozenset()

    @property
    def is_shard(self) -> bool:
        return PurePosixPath(self.name).suffix.lower() == SHARD


def plan(
    names: Iterable[str],
    there: Collection[str],
    packed: Mapping[str, str],
    *,
    suffixes: Collection[str],
    new_suffix: str,
    layout: Layout,
    per_shard: int,
    force: bool,
) -> list[Unit]:
    """What is missing, in a fixed order; with ``force`` everything.

    ``there`` are the files of DST, ``packed`` the shards that sources went into by its manifest.
    Raises OutputError if DST has packed shards that the manifest does not know.
    """
    paths = [path for path in map(PurePosixPath, sorted(names)) if not is_mac_companion(path)]
    pictures = [path for path in paths if path.suffix.lower() in suffixes]
    if layout == "shards":
        units = _packed([str(path) for path in pictures], there, packed, new_suffix, per_shard)
    else:
        pairs = [(path, path.with_suffix(new_suffix)) for path in pictures]
        targets = zip(pictures, tell_apart(pairs, new_suffix), strict=True)
        units = [Unit(str(path), str(target)) for path, target in targets]
        units = [unit for unit in units if force or unit.target not in there]
    for path in paths:
        if path.suffix.lower() == SHARD:
            units += _of_shard(path, there, layout, force)
    return units


def _of_shard(
    path: PurePosixPath, there: Collection[str], layout: Layout, force: bool
) -> list[Unit]:
    if layout != "files":
        return [Unit(str(path), "", str(path))] if force or str(path) not in there else []
    folder = str(path.with_suffix(""))
    inside = (name for name in there if name.startswith(f"{folder}/"))
    return [Unit(str(path), folder, "", frozenset() if force else frozenset(inside))]


def _packed(
    pictures: list[str],
    there: Collection[str],
    packed: Mapping[str, str],
    new_suffix: str,
    per_shard: int,
) -> list[Unit]:
    """Pictures that are in no shard yet, in new ones behind those that are there."""
    old = {name: int(found[1]) for name in there if (found := PACKED_NAME.fullmatch(name))}
    if unknown := sorted(old.keys() - set(packed.values())):
        raise OutputError(
            f"{unknown[0]}: a shard that the manifest does not name, so its pictures would be "
            "packed twice: give the manifest it was made with, or another folder"
        )
    missing = [name for name in pictures if packed.get(name) not in there]
    numbers = count(max(old.values(), default=-1) + 1)
    units = []
    for start in range(0, len(missing), per_shard):
        shard = PACKED.format(next(numbers))
        paths = [PurePosixPath(name) for name in missing[start : start + per_shard]]
        pairs = [(path, path.with_suffix(new_suffix)) for path in paths]
        targets = zip(paths, tell_apart(pairs, new_suffix), strict=True)
        units += [Unit(str(path), str(target), shard) for path, target in targets]
    return units
