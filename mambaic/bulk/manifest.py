"""The manifest: a line of JSON for each picture, appended call after call.

A line is written before its output appears: a call that is killed in between leaves a line without
a file, which the next call makes again with a line of its own. So of a source the last line holds,
if its target is there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from mambaic.bulk.items import Item
from mambaic.bulk.plan import PACKED_NAME
from mambaic.errors import OutputError
from mambaic.imaging.atomic_files import reason

START = b'{"source": '


class Manifest:
    """Open for appending. Raises OutputError where it cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes() if path.exists() else b""
            end = data.rfind(b"\n") + 1
            self._before = [self._line(text) for text in data[:end].splitlines()]
            if data[end:].startswith(START):  # a call was killed within its last line
                os.truncate(path, end)
            elif data[end:]:
                self._line(data[end:])
            self._file = path.open("a", encoding="utf-8")
        except OSError as exc:
            raise OutputError(f"{path}: cannot be used as manifest: {reason(exc)}") from exc

    def _line(self, text: bytes) -> dict[str, Any]:
        try:
            line = json.loads(text)
            return {"source": line["source"], "target": line["target"]}
        except (ValueError, LookupError, TypeError) as exc:
            raise OutputError(f"{self.path}: is no manifest: name another file") from exc

    def packed(self) -> dict[str, str]:
        """Packed shard of each source that lies in one, by the lines of earlier calls."""
        shards = {line["source"]: (line["target"] or "").partition("/")[0] for line in self._before}
        return {source: shard for source, shard in shards.items() if PACKED_NAME.fullmatch(shard)}

    def add(self, items: Iterable[Item]) -> None:
        try:
            for item in items:
                self._file.write(json.dumps(item.line()) + "\n")
            self._file.flush()
        except OSError as exc:
            raise OutputError(f"{self.path}: cannot be written: {reason(exc)}") from exc

    def __enter__(self) -> Manifest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._file.close()
