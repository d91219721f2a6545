"""``mambaic bulk``, with the units coded one by one instead of on Ray (tests/bulk/test_ray.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import photo_pixels
from PIL import Image

from mambaic.bulk import ray_data
from mambaic.bulk.coding import code
from mambaic.bulk.reading import read
from mambaic_cli.main import main

UNIT = str(Path(__file__).parents[1] / "golden" / "v6" / "unit")


@pytest.fixture(autouse=True)
def clusters(monkeypatch) -> list[ray_data.Cluster]:
    """Those that were asked for."""
    asked = []

    def run(units, place, task, cluster):
        asked.append(cluster)
        for unit in units:
            for item in read(place, unit, task.suffixes, task.new_suffix):
                yield code(item, task, "cpu")

    monkeypatch.setattr(ray_data, "run", run)
    monkeypatch.setattr("mambaic.extras.require", lambda extra: None)
    return asked


@pytest.fixture
def src(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("src").mkdir()
    Image.fromarray(photo_pixels(24, 40)).save("src/a.png")
    return Path("src")


def bulk(*arguments: str) -> int:
    return main(["bulk", *arguments])


def test_there_and_back(src, clusters, capsys):
    options = ["--model", UNIT, "--effort", "1"]
    assert bulk("src", "dst", *options, "--workers", "3", "--cpus", "0.5", "--address", "auto") == 0
    assert clusters == [ray_data.Cluster(address="auto", workers=3, cpus=0.5)]
    assert capsys.readouterr().out.startswith("1 done, 0 failed: ")
    assert bulk("src", "dst", *options) == 0
    assert len(clusters) == 1  # no Ray is started for nothing
    back = ["--decompress", "--format", "ppm", "--model", UNIT]
    assert bulk("dst", "back", *back, "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()[1:]
    assert json.loads(line)["target"] == "a.ppm"
    assert Path("back/a.ppm").exists()


def test_a_bad_picture_gives_its_code_and_the_rest_go_on(src, capsys):
    (src / "0.png").write_bytes(b"no picture")
    assert bulk("src", "dst", "--model", UNIT, "--effort", "1") == 3
    said = capsys.readouterr()
    assert said.err == "mambaic: 0.png: image: not an image that Pillow can read\n"
    assert said.out.startswith("1 done, 1 failed: ")
    assert Path("dst/a.mbic").exists()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "text"),
    [
        (["none", "dst"], 3, "no such file or folder"),
        (["src", "src"], 2, "DST is SRC"),
        (["src", ""], 2, "empty"),
        (["src", "dst", "--format", "png"], 2, "--format is for --decompress"),
        (["src", "dst", "--decompress", "-q", "3"], 2, "--quality is for compressing"),
        (["src", "dst", "--to", "shards", "--force"], 2, "pack pictures twice"),
        (["src", "dst", "--model", "none"], 5, "no checkpoint there"),
        (["src", "memory://dst"], 2, "--manifest"),
        (["src", "nowhere://dst"], 5, "nowhere"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_done(src, arguments, exit_code, text, capsys):
    assert bulk(*arguments) == exit_code
    assert text in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["src"]
