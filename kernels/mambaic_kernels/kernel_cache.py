"""Compiled kernels kept on disk, as compiling them all takes half a minute.

numba's own cache raises whatever a full disk or a damaged file makes of it, runs machine code that
it has not checked, and knows a function by its own file alone, though functions of other files are
inlined into it. Here files carry a checksum, all sources of this package are part of the key, and
nothing that happens to the cache stops a command: the kernel is compiled, and the log says why.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import pickle
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache

log = logging.getLogger(__name__)

CRC_BYTES = 4
SLOW = "until then every command compiles its kernels, which takes up to a minute"


class DamagedFile(Exception):
    """A file of the cache does not hold what was written."""


class CheckedFile(IndexDataCacheFile):
    """numba's index and data files, each behind the CRC-32 of its content."""

    def _load_index(self) -> dict[Any, str]:
        try:
            version, stamp, names = self._read(self._index_path)
        except FileNotFoundError:
            return {}
        return names if (version, stamp) == (self._version, self._source_stamp) else {}

    def _save_index(self, overloads: dict[Any, str]) -> None:
        self._write(self._index_path, (self._version, self._source_stamp, overloads))

    def _load_data(self, name: str) -> Any:
        return self._read(self._data_path(name))

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), data)

    def _read(self, path: str) -> Any:
        stored = Path(path).read_bytes()
        crc, content = stored[:CRC_BYTES], stored[CRC_BYTES:]
        if crc != _crc(content):
            raise DamagedFile(f"{path} is not what was written")
        return pickle.loads(content)

    def _write(self, path: str, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(path) as file:
            file.write(_crc(content) + content)


class KernelCache(FunctionCache):
    """Cache of one function whose failures are logged, and mended where the folder allows it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp(), _sources()
        name = f"{self._impl.filename_base}-checked"  # files without checksums are numba's
        self._cache_file = CheckedFile(self._cache_path, name, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as exc:  # unpickling may raise anything
            _say("damaged", f"kernels are compiled anew, as their cache is damaged: {_reason(exc)}")
            # an empty index, so that what is compiled now can be saved
            with contextlib.suppress(OSError):  # which ``save_overload`` will tell
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as exc:
            _say(
                "unwritable",
                f"compiled kernels cannot be kept in {self._cache_path}: {_reason(exc)}; free some "
                f"space there or set NUMBA_CACHE_DIR to another folder: {SLOW}",
            )


class NoCache(NullCache):
    """Of a function for which no folder can be written: says so if it has to be compiled."""

    def save_overload(self, sig: Any, cres: Any) -> None:
        _say(
            "no folder",
            "no folder for compiled kernels can be written; set NUMBA_CACHE_DIR to one that can: "
            f"{SLOW}",
        )


def enable_cache(dispatcher: Any) -> Any:
    """The numba function ``dispatcher``, from now on cached on disk where a folder allows it."""
    try:
        dispatcher._cache = KernelCache(dispatcher.py_func)
    except RuntimeError:  # none of numba's places can be written
        dispatcher._cache = NoCache()
    return dispatcher


_said: set[str] = set()


def _say(kind: str, text: str) -> None:
    """Log the first trouble of its kind: other kernels meet the same."""
    if kind not in _said:
        _said.add(kind)
        log.warning("%s", text)


def _reason(exc: Exception) -> str:
    return getattr(exc, "strerror", None) or str(exc) or type(exc).__name__


def _crc(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(CRC_BYTES, "little")


@lru_cache(maxsize=1)
def _sources() -> str:
    """Digest of the source files of this package: functions are inlined across them."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
