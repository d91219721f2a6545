"""How much the walk of a file asks of a GPU: bounds are what was counted when they were set, and
only go down. Counted, not measured: an operation of torch counts as one launch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

KODAK = (32, 48)  # latents of 768x512
STEPS = 45  # coding steps, sub-group by sub-group
UPLOADS = 18


def counted(size: tuple[int, int], batch: int) -> dict[str, Any]:
    """In a process of its own, as fake tensors would stay in caches."""
    command = [
        sys.executable,
        str(Path(__file__).parent / "launches.py"),
        *map(str, (*size, batch)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def check(found: dict[str, Any], launches: int) -> None:
    assert found["steps"] == STEPS
    assert found["launches"] <= launches, found["by_name"]
    # a coder reads scale indices and writes latents; what the quality decides is uploaded
    assert found["transfers"]["cuda to cpu"] == STEPS
    assert found["transfers"]["cpu to cuda"] <= STEPS + UPLOADS
    assert set(found["transfers"]) == {"cuda to cpu", "cpu to cuda"}


def test_a_walk_takes_no_more_launches_than_counted():
    pytest.importorskip("triton")
    check(counted(KODAK, 1), 2700)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "batch"), [(KODAK, 16), ((128, 128), 1)])
def test_launches_do_not_grow_with_batch_and_picture(size, batch):
    pytest.importorskip("triton")
    check(counted(size, batch), 2700)
