"""How much a file asks of a GPU: bounds are what was counted when they were set, and only go down.
Counted, not measured: an operation of torch counts as one launch."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")

KODAK = 768, 512
STEPS = 45  # coding steps, sub-group by sub-group
START = 3  # transfers to a GPU before the first step: what the quality decides
DECODE = {"walk": 635, "synthesis and filter": 285}
ENCODE = {"rotation": 40, "analysis": 220, "walk": 670, "filter": 805}


@lru_cache
def counted(way: str, size: tuple[int, int], batch: int) -> dict[str, Any]:
    """In a process of its own, as fake tensors would stay in caches."""
    script = str(Path(__file__).parent / "launches.py")
    command = [sys.executable, script, way, *map(str, (*size, batch))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def check(found: dict[str, Any], bounds: dict[str, int]) -> None:
    assert found["steps"] == STEPS
    for name, most in bounds.items():
        part = found["parts"][name]
        assert part["launches"] <= most, (name, part["by_name"])
    walk = found["parts"]["walk"]["transfers"]
    # a coder takes indices, and residuals with them, and gives latents
    assert walk["cuda to cpu"] == STEPS
    assert walk["cpu to cuda"] <= STEPS + START
    assert set(walk) == {"cuda to cpu", "cpu to cuda"}


def test_decoding_takes_no_more_launches_than_counted():
    assert sum(DECODE.values()) <= 1200
    found = counted("decode", KODAK, 1)
    check(found, DECODE)
    assert found["parts"]["synthesis and filter"]["transfers"]["cuda to cpu"] == 1


@pytest.mark.slow
def test_encoding_takes_no_more_launches_than_counted():
    assert sum(ENCODE.values()) <= 2500
    check(counted("encode", KODAK, 1), ENCODE)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "batch"), [(KODAK, 16), ((2048, 2048), 1)])
def test_launches_of_a_walk_do_not_grow_with_batch_and_picture(size, batch):
    check(counted("decode", size, batch), {"walk": DECODE["walk"]})
