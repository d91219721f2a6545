"""Real workers of a Ray on this machine, some of which are killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import photo_pixels
from PIL import Image

from mambaic.bulk.coding import Compression
from mambaic.bulk.manifest import Manifest
from mambaic.bulk.places import Place, sources
from mambaic.bulk.plan import plan
from mambaic.bulk.ray_data import Cluster, run
from mambaic.bulk.writing import write
from mambaic.codec import load
from mambaic.encoder.options import EncodeOptions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),  # Ray's, of what it deprecates itself
]
UNIT = str(Path(__file__).parents[1] / "golden" / "v6" / "unit")
FAST = EncodeOptions(effort=1)


@pytest.fixture(scope="module")
def ray():
    found = pytest.importorskip("ray", reason="ray is not installed: pip install 'mambaic[ray]'")
    # workers are nice by default, and starve on a busy machine
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    found.init(
        address="local", num_cpus=2, object_store_memory=200 * 2**20, include_dashboard=False,
        log_to_driver=False, logging_level="ERROR",
    )  # fmt: skip
    found.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield found
    found.shutdown()


@dataclass(frozen=True, kw_only=True)
class Deadly(Compression):
    """Ends the process at some pictures, as the system does when memory is short."""

    def code(self, data: bytes, device: str) -> tuple[bytes, tuple[str, ...]]:
        if data == b"deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().code(data, device)


def workers() -> list[int]:
    """Processes of workers that were started from here."""
    import psutil

    children = psutil.Process().children(recursive=True)
    return [child.pid for child in children if "MapWorker" in "".join(child.cmdline())]


def bulk(src: Path, dst: Path, task: Compression, kill_after: int | None = None) -> list[dict]:
    """Lines of the call; one worker is killed when so many pictures have come back."""
    place, names = sources(str(src))
    with Manifest(dst / "manifest.jsonl") as manifest:
        units = plan(
            names, Place(str(dst)).names(), {}, suffixes=task.suffixes, new_suffix=".mbic",
            layout="same", per_shard=1, force=False,
        )  # fmt: skip
        items = run(units, place, task, Cluster(workers=2)) if units else ()
        lines = []
        for item in write(items, Place(str(dst)), manifest, force=False):
            lines.append(item.line())
            if len(lines) == kill_after:
                os.kill(workers()[0], signal.SIGKILL)
    return lines


def test_nothing_is_lost_and_nothing_twice_when_a_worker_is_killed(ray, tmp_path):
    src, dst = tmp_path / "src", tmp_path / "dst"
    src.mkdir()
    for i in range(200):
        Image.fromarray(photo_pixels(32, 48, i)).save(src / f"{i:03}.png")
    lines = bulk(src, dst, Compression(model=UNIT, options=FAST), kill_after=10)
    assert [line["source"] for line in lines] == [f"{i:03}.png" for i in range(200)]
    assert not any(line["error"] for line in lines)
    written = [json.loads(line) for line in (dst / "manifest.jsonl").read_text().splitlines()]
    assert set(Counter(line["source"] for line in written).values()) == {1}
    assert len(written) == len(list(dst.glob("*.mbic"))) == 200
    expected = load(UNIT, "cpu").encode(src / "123.png", effort=1)
    assert (dst / "123.mbic").read_bytes() == expected
    (dst / "005.mbic").unlink()
    second = bulk(src, dst, Compression(model=UNIT, options=FAST))
    assert [line["source"] for line in second] == ["005.png"]


def test_a_picture_that_kills_its_workers_is_blamed_alone(ray, tmp_path):
    src = tmp_path / "src"
    src.mkdir()
    for i in range(4):
        Image.fromarray(photo_pixels(32, 48, i)).save(src / f"{i}.png")
    (src / "1.png").write_bytes(b"deadly")
    lines = bulk(src, tmp_path / "dst", Deadly(model=UNIT, options=FAST))
    failed = {line["source"]: line["error"] for line in lines if line["error"]}
    assert failed == {"1.png": "its worker ended 3 times: too little memory?"}
    assert len(lines) == 4
