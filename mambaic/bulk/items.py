"""What travels between readers, workers and the writer."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from typing import Any

from mambaic.errors import as_known

BUG = 1  # exit code


@dataclass(frozen=True, kw_only=True)
class Item:
    """A picture, or another member of a shard, on its way: first the bytes of the source, then
    those of the target; or why there are none."""

    source: str  # below SRC; of members SHARD/MEMBER
    target: str  # below DST, or below ``shard``
    shard: str = ""  # of DST, that the target is a member of
    data: bytes | None = None
    n_bytes: int | None = None  # of the target
    is_picture: bool = True  # the rest of a shard (captions, labels) is copied
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    error: str | None = None
    code: int = 0  # exit code of the error
    breaks_shard: bool = False  # its source ended too early: the shard is not to be written

    @property
    def place(self) -> str:
        """The target below DST."""
        return f"{self.shard}/{self.target}" if self.shard else self.target

    def without_data(self) -> Item:
        return replace(self, data=None)

    def failed(self, exc: Exception, *, breaks_shard: bool = False) -> Item:
        """With a bug's traceback, with one line of any other error."""
        known = as_known(exc)
        text = "".join(traceback.format_exception(exc)) if known is None else str(known)
        code = BUG if known is None else known.exit_code
        return replace(
            self, data=None, n_bytes=None, error=text, code=code, breaks_shard=breaks_shard
        )

    def line(self) -> dict[str, Any]:
        """Its line of the manifest."""
        return {
            "source": self.source,
            "target": self.place if self.error is None else None,
            "bytes": self.n_bytes,
            "seconds": round(self.seconds, 4),
            "notes": list(self.notes),
            "error": self.error,
            "code": self.code,
        }
