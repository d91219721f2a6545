"""Checks of Triton kernels under Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PARITY = "parity holds"
TESTS = Path(__file__).parent


def assert_parity(check: str, **values: object) -> None:
    """Run a check, which prints PARITY at its end, filled in with ``values``: in a process of its
    own beside the kernels' tests, as the interpreter is chosen when triton is imported."""
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-c", check.format(**values)],
        cwd=TESTS / "kernels",
        env={**os.environ, "PYTHONPATH": str(TESTS), "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert PARITY in done.stdout, done.stderr
