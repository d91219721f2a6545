"""Sources as items: pictures of folders, members of tar shards."""

from __future__ import annotations

import tarfile
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import PurePosixPath

from mambaic.bulk.items import Item
from mambaic.bulk.places import Place
from mambaic.bulk.plan import Unit
from mambaic.errors import ImageError
from mambaic.imaging.atomic_files import reason
from mambaic.imaging.suffixes import is_mac_companion


def read(
    place: Place, unit: Unit, suffixes: Collection[str], new_suffix: str
) -> Iterator[Item]:  # fmt: skip
    """What a unit holds. What cannot be read is an item with an error."""
    if unit.is_shard:
        yield from _members(place, unit, suffixes, new_suffix)
        return
    item = Item(source=unit.name, target=unit.target, shard=unit.shard)
    try:
        with place.open(unit.name) as file:
            yield replace(item, data=file.read())
    except Exception as exc:  # file systems of many makers
        yield item.failed(_unreadable(place.at(unit.name), exc))


def _members(
    place: Place, unit: Unit, suffixes: Collection[str], new_suffix: str
) -> Iterator[Item]:  # fmt: skip
    """A shard that is cut off or damaged ends with an item that says so."""
    names: set[str] = set()
    try:
        with place.open(unit.name) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if not member.isfile() or is_mac_companion(path):
                    continue
                is_picture = path.suffix.lower() in suffixes
                name = str(path.with_suffix(new_suffix) if is_picture else path)
                if name in names:  # a.png beside a.jpg
                    name = f"{path}{new_suffix}" if is_picture else name
                names.add(name)
                target = name if unit.shard else f"{unit.target}/{name}"
                if target in unit.there:
                    continue
                content = archive.extractfile(member)
                assert content is not None
                yield Item(
                    source=f"{unit.name}/{member.name}",
                    target=target,
                    shard=unit.shard,
                    data=content.read(),
                    is_picture=is_picture,
                )
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it is cut off")
    except Exception as exc:  # of tarfile, and of file systems of many makers
        item = Item(source=unit.name, target=unit.target, shard=unit.shard)
        yield item.failed(_unreadable(place.at(unit.name), exc), breaks_shard=True)


def _unreadable(name: str, exc: Exception) -> ImageError:
    error = ImageError(f"{name}: cannot be read: {reason(exc)}")
    error.__cause__ = exc
    return error
