"""How jobs ended, as lines, JSON and one exit code; and which exceptions are no bugs."""

from __future__ import annotations

import contextlib
import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mambaic.errors import OutputError, as_known
from mambaic_cli.console import tell
from mambaic_cli.jobs import Job, name_of
from mambaic_cli.streams import warn

BUG = 1


@dataclass(kw_only=True)
class Outcomes:
    """Tells of each job as it ends. Results go to stdout, or to stderr if it carries files."""

    line: Callable[[dict[str, Any]], str]
    as_json: bool
    quiet: bool
    piped: bool
    codes: list[int] = field(default_factory=list)
    bugs: list[tuple[str, Exception]] = field(default_factory=list)

    def add(self, job: Job, result: dict[str, Any] | Exception) -> None:
        if isinstance(result, Exception):
            return self._failed(job, result)
        try:
            if self.as_json and not self.piped:
                tell(json.dumps(result))
            elif not self.quiet:
                (warn if self.piped else tell)(self.line(result))
        except OutputError as exc:
            self._failed(job, exc)

    def conclude(self, count: int) -> int:
        """The last lines, and the exit code: 0, or that of the first of ``count`` jobs that failed,
        or 1 if one met a bug."""
        for name, exc in self.bugs:
            warn(f"mambaic: {name}: a bug: please report what follows")
            for text in traceback.format_exception(exc):
                for row in text.splitlines():
                    warn(row)
        if count > 1 and self.codes:
            warn(f"mambaic: {len(self.codes)} of {count} files failed")
        return BUG if self.bugs else next(iter(self.codes), 0)

    def _failed(self, job: Job, exc: Exception) -> None:
        name, known = name_of(job.source), as_known(exc)
        if known is None:
            self.bugs.append((name, exc))
        else:
            text = str(known)
            warn(f"mambaic: {text if text.startswith(f'{name}:') else f'{name}: {text}'}")
        code = BUG if known is None else known.exit_code
        self.codes.append(code)
        if self.as_json and not self.piped:
            target = None if job.target is None else name_of(job.target)
            error = str(known or f"{type(exc).__name__}: {exc}")
            # what could not be told of before cannot be told of now
            with contextlib.suppress(OutputError):
                tell(json.dumps({"input": name, "output": target, "error": error, "code": code}))
