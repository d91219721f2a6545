"""The benchmark beside CompressAI's models: its stages are there, and each second counts once."""

from __future__ import annotations

import re
import time

import bench
import pytest
from conftest import photo_pixels
from PIL import Image

from mambaic.codec import Codec


def outer():
    time.sleep(0.02)
    inner()


def inner():
    time.sleep(0.01)


def test_time_in_an_inner_stage_is_not_that_of_the_outer_one():
    clock = bench.StageClock()
    before = outer
    with clock.watching({"outer": [f"{__name__}:outer"], "inner": [f"{__name__}:inner"]}):
        outer()
        outer()
        inner()
    assert outer is before
    assert 0.03 <= clock.seconds["inner"] < clock.seconds["outer"]
    assert 0.04 <= clock.seconds["outer"] < 0.06


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(photo_pixels(64, 96)).save(path)
    return str(path)


def test_every_stage_of_both_ways_takes_its_time(unit_model, monkeypatch, capsys, picture):
    monkeypatch.setattr(bench.mambaic, "load", lambda *_: Codec(unit_model))
    bench.main([picture, "--rival", "none", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("96x64, ")
    for way, stages in bench.STAGES.items():
        (line,) = (line for line in lines if line.startswith(f"{way}: "))
        parts = [part.rsplit(" ", 1) for part in line.removeprefix(f"{way}: ").split(", ")]
        seconds = {name: float(value) for name, value in parts}
        assert seconds.keys() == {*stages, "rest"}
        assert seconds["walk"] > 0
        assert seconds["g_s"] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # CompressAI's dependencies warn when imported
def test_times_beside_a_rival_are_compared(unit_model, monkeypatch, capsys, picture):
    monkeypatch.setattr(bench.mambaic, "load", lambda *_: Codec(unit_model))
    monkeypatch.setattr(bench, "LARGE", 1)
    bench.main([picture, "--rounds", "1"])
    out = capsys.readouterr().out
    for way in bench.STAGES:
        ours, rival, ratio = (
            float(re.search(rf"^{way} {name} +best (\S+)", out, re.MULTILINE)[1])
            for name in ("s", bench.RIVAL, "ratio")
        )
        assert ratio == pytest.approx(ours / rival, rel=0.2)
