"""Outputs appear whole or not at all, and nothing takes effect any more once the process is to end.

What is not finished lies beside its place under another name. The rename that makes it an output,
and the deletion of the source that it replaces, happen behind one gate: whoever ends the process
closes it first, so that each output is either there with all that belongs to it, or not begun.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mambaic.errors import ImageError, OutputError

_gate = threading.Lock()
_unfinished: set[Path] = set()


def _after_fork() -> None:
    """In a forked child: what the parent has not finished is not the child's to remove."""
    global _gate
    _gate = threading.Lock()  # a thread that is not in the child may have held it
    _unfinished.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


@contextlib.contextmanager
def taking_effect() -> Iterator[None]:
    """Around renames and deletions that belong together: all of them happen, or none."""
    with _gate:
        yield


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A file or folder of that name to work in, gone when the block or the process ends."""
    with _gate:
        _unfinished.add(path)
    try:
        yield path
    finally:
        _remove(path)
        _unfinished.discard(path)


def end_all(timeout_s: float) -> None:
    """Close the gate for good and remove what is unfinished: the process is about to end. What is
    taking effect is waited for, but not longer than ``timeout_s``: a network drive may hang."""
    if _gate.acquire(timeout=timeout_s):
        for path in list(_unfinished):
            _remove(path)


def _remove(path: Path) -> None:
    # a file system that has become read-only, say, has told so already
    with contextlib.suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class SourceFile:
    """An input as it was when it was looked at, to be deleted if it is still the same."""

    path: Path
    state: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> SourceFile:
        """Raises ImageError if there is no file to be read."""
        return cls(path, cls._state(path))

    @staticmethod
    def _state(path: Path) -> tuple[int, ...]:
        try:
            found = path.stat()
        except FileNotFoundError as exc:
            raise ImageError(f"{path}: no such file") from exc
        except (OSError, ValueError) as exc:
            raise ImageError(f"{path}: cannot be read: {reason(exc)}") from exc
        return found.st_mode, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    @property
    def regular(self) -> bool:
        """Not a pipe or device, whose bytes can be read once."""
        return stat.S_ISREG(self.state[0])

    def delete(self) -> None:
        """Raises OutputError if it has changed or cannot be deleted."""
        try:
            if self._state(self.path) != self.state:
                raise OutputError(f"{self.path}: kept, as it has changed since it was read")
            self.path.unlink()
        except OSError as exc:
            raise OutputError(f"{self.path}: cannot be deleted: {reason(exc)}") from exc


class Outputs:
    """The files that one run writes. ``close`` ends it: nothing of it takes effect afterwards."""

    def __init__(self) -> None:
        self._closed = False

    def close(self) -> None:
        with _gate:
            self._closed = True

    def write(
        self, path: Path, data: bytes, *, force: bool = False, replaces: SourceFile | None = None
    ) -> None:
        """Write beside ``path``, flush to the disk, rename, and only then delete ``replaces``.

        An existing file needs ``force``. Pipes and devices are written to. Interrupted or failing
        at any point, ``path`` is what it was before. Raises OutputError.
        """
        if is_special(path, force=force):
            if replaces is not None:
                raise OutputError(f"{path}: keeps nothing, so {replaces.path} is not deleted")
            return _pour(path, data)
        target = Path(os.path.realpath(path))  # through links, which stay
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # not mkstemp: its file would need the umask, which a process cannot read without
            # setting it
            with unfinished(target.with_name(f".mambaic-{secrets.token_hex(8)}.part")) as part:
                _write_through(part, data)
                with taking_effect():
                    if self._closed:
                        raise OutputError(f"{path}: not written, as the run was interrupted")
                    (os.replace if force else _rename_new)(part, target)
                    if replaces is not None:
                        _flush_folder(target.parent)
                        replaces.delete()
        except FileExistsError as exc:
            raise OutputError(f"{path}: exists already; use --force to replace it") from exc
        except OSError as exc:
            raise OutputError(f"{path}: cannot be written: {reason(exc)}") from exc


def settle(part: Path, path: Path, *, force: bool) -> None:
    """A file that was written in a block of ``unfinished`` becomes ``path`` on the same disk.

    An existing file needs ``force``. Raises OutputError.
    """
    try:
        with part.open("rb") as file:
            os.fsync(file.fileno())
        path.parent.mkdir(parents=True, exist_ok=True)
        with taking_effect():
            (os.replace if force else _rename_new)(part, path)
    except FileExistsError as exc:
        raise OutputError(f"{path}: exists already; use --force to replace it") from exc
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written: {reason(exc)}") from exc


_outputs = Outputs()


def atomic_write(path: str | Path, data: bytes, *, force: bool = False) -> None:
    """``Outputs.write`` of no run in particular."""
    _outputs.write(Path(path), data, force=force)


def is_special(path: Path, *, force: bool) -> bool:
    """Whether ``path`` is a pipe or device, which is written to and not replaced. Raises
    OutputError on a folder, and on a file that may not be replaced."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as exc:
        raise OutputError(f"{path}: cannot be written: {reason(exc)}") from exc
    if stat.S_ISDIR(mode):
        raise OutputError(f"{path}: is a folder")
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        return True
    if not stat.S_ISREG(mode):
        raise OutputError(f"{path}: is neither a file nor a pipe")
    if not force:
        raise OutputError(f"{path}: exists already; use --force to replace it")
    return False


def check_writable(path: Path) -> None:
    """Try to make a file in the folder of ``path``, or in the nearest that exists, before work is
    spent on what could not be written. Raises OutputError."""
    folder = Path(os.path.realpath(path)).parent
    try:
        while not folder.exists():
            folder = folder.parent
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written: {reason(exc)}") from exc


def reason(exc: Exception) -> str:
    """What went wrong, without the name of the file, which messages begin with."""
    return getattr(exc, "strerror", None) or str(exc) or type(exc).__name__


def _pour(path: Path, data: bytes) -> None:
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written: {reason(exc)}") from exc


def _write_through(path: Path, data: bytes) -> None:
    """A new file whose bytes are on the disk."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Bring renames to the disk, where a folder can be opened for it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _rename_new(part: Path, path: Path) -> None:
    """Rename that fails if the target has appeared meanwhile, where the file system can do it."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # no hard links here (FAT, some network drives)
        os.replace(part, path)
