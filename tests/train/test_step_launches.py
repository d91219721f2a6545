"""What a training step asks of a GPU: counted, not measured. An operation of torch counts as one
launch; bounds are what was counted when they were set, and only go down."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")


def counted(preset: str, kind: str) -> dict[str, Any]:
    """In a process of its own, as what it replaces in modules would stay replaced."""
    script = Path(__file__).parent / "meta_step.py"
    done = subprocess.run(
        [sys.executable, script, preset, kind], capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def check(found: dict[str, Any], launches: int, paths: int) -> None:
    assert found["launches"] <= launches, found["by_name"]
    # places of crops and qualities: nothing else leaves the host, and it waits for nothing
    assert found["sent"] == [[4, 8], [4]]
    # the trellis is searched on the device, of every sub-group at once
    assert found["by_name"]["mambaic.trellis_search.default"] == 3 * paths
    # the optimiser's groups, each in one launch
    assert found["by_name"]["_fused_adamw_.default"] == 2
    # norms and factor of clipping, and the average: so many launches for all parameters
    foreach = sum(count for name, count in found["by_name"].items() if "_foreach" in name)
    assert foreach <= 9


def test_a_step_sends_places_alone_and_waits_for_nothing():
    check(counted("unit", "tables"), 3800, 14)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "launches"), [("tables", 9600), ("scratch", 8600)])
def test_a_step_of_s_takes_no_more_launches_than_counted(kind, launches):
    check(counted("s", kind), launches, 44)
