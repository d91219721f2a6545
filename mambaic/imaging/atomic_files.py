"""Outputs appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from mambaic.errors import OutputError


def atomic_write(path: str | Path, data: bytes, *, force: bool = False) -> None:
    """Write beside ``path``, flush to the disk, rename. An existing file needs ``force``.

    Interrupted or failing at any point, ``path`` is what it was before. Raises OutputError.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path}: is a folder")
    if path.exists() and not force:
        raise OutputError(f"{path}: exists already; use --force to replace it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written: {exc.strerror or exc}") from exc
    # not mkstemp: its file would need the umask, which a process cannot read without setting it
    part = path.with_name(f".mambaic-{secrets.token_hex(8)}.part")
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if force:
            os.replace(part, path)
        else:
            _rename_new(part, path)
    except FileExistsError as exc:
        raise OutputError(f"{path}: exists already; use --force to replace it") from exc
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written: {exc.strerror or exc}") from exc
    finally:
        part.unlink(missing_ok=True)


def _rename_new(part: Path, path: Path) -> None:
    """Rename that fails if the target has appeared meanwhile, where the file system can do it."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # no hard links here (FAT, some network drives)
        os.replace(part, path)
