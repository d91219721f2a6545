"""Pictures that one codec cannot code, that have no PSNR or no size for a metric: the rest of the
set is measured all the same."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest
from conftest import photo_pixels
from PIL import Image

from mambaic.errors import ImageError
from mambaic.evaluation import rivals as rival_codecs
from mambaic.evaluation.contenders import RivalContender
from mambaic.evaluation.quality_metrics import chosen
from mambaic.imaging.image import Picture
from mambaic_cli.main import main


def evaluate(folder, out, *more):
    return main(
        ["eval", str(folder), "-o", str(out), "--codecs", "jpeg,webp", "--gallery", "1", *more]
    )


def strict_json(path):
    def refuse(name):
        raise AssertionError(f"{path}: {name} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture(scope="module")
def hard(tmp_path_factory):
    """A photograph, one too wide for WebP, one colour, one pixel, gray, transparent, none."""
    folder = tmp_path_factory.mktemp("hard")
    Image.fromarray(photo_pixels(72, 64)).save(folder / "photo.png")
    Image.fromarray(photo_pixels(8, 100)).resize((16400, 8)).save(folder / "wide.png")
    Image.new("RGB", (64, 64)).save(folder / "black.png")
    Image.new("RGB", (1, 1), (3, 200, 9)).save(folder / "dot.png")
    Image.fromarray(photo_pixels(40, 50)[..., 0]).save(folder / "gray.png")
    Image.fromarray(photo_pixels(40, 50)).convert("RGBA").save(folder / "alpha.png")
    (folder / "none.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def hard_report(hard, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "hard"
    assert evaluate(hard, out) == 3
    return out


def test_what_is_missing_is_named_with_its_reason(hard_report):
    notes = "\n".join(strict_json(hard_report / "bd.json")["notes"])
    assert "none.png: not an image" in notes
    assert "wide.png: webp could not code it" in notes
    assert "wide.png: left out of the means: not coded by webp" in notes
    assert "black.png: left out of the means: coded exactly by jpeg" in notes
    for name in ("report.md", "index.html"):
        assert "could not code it" in (hard_report / name).read_text()


def test_means_are_finite_and_of_the_same_pictures(hard_report):
    for codec in ("jpeg", "webp"):
        results = strict_json(hard_report / f"{codec}.json")["results"]
        assert np.isfinite(results["psnr-rgb"]).all()
        assert np.isfinite(results["ssimulacra2"]).all()
    assert strict_json(hard_report / "bd.json")["rows"][0]["bd_rate"]["psnr_db"] < 0


def test_an_exact_copy_has_no_psnr_in_json(hard_report):
    images = strict_json(hard_report / "jpeg.json")["images"]
    assert images["black.png"]["psnr-rgb"][-1] is None
    assert images["black.png"]["ssimulacra2"][-1] == 100
    assert images["dot.png"]["ssimulacra2"] == [None] * 6
    assert "wide.png" in images
    for line in (hard_report / "points.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(name))


def test_resumed_report_is_the_same(hard, hard_report):
    before = (hard_report / "points.csv").read_text(), (hard_report / "bd.json").read_text()
    assert evaluate(hard, hard_report, "--resume") == 3
    after = (hard_report / "points.csv").read_text(), (hard_report / "bd.json").read_text()
    assert after == before


def test_a_set_of_exact_copies_is_reported(tmp_path):
    (tmp_path / "set").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "set" / "black.png")
    assert evaluate(tmp_path / "set", tmp_path / "out") == 0
    assert "psnr-rgb" not in strict_json(tmp_path / "out" / "jpeg.json")["results"]
    assert "infinite" in (tmp_path / "out" / "report.md").read_text()


def test_a_set_that_nothing_codes_is_an_error(tmp_path, capsys):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "none.png").write_bytes(b"no picture")
    assert evaluate(tmp_path / "set", tmp_path / "out") == 3
    assert "nothing to report" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux alone")
def test_a_name_that_is_no_text_is_spelled_out(tmp_path):
    (tmp_path / "set").mkdir()
    Image.fromarray(photo_pixels(40, 50)).save(tmp_path / "set" / "x.png")
    os.rename(tmp_path / "set" / "x.png", os.fsencode(tmp_path / "set") + b"/\xff.png")
    assert evaluate(tmp_path / "set", tmp_path / "out") == 0
    for name in ("points.csv", "index.html"):
        assert r"\xff.png" in (tmp_path / "out" / name).read_text(encoding="utf-8")
    assert list(strict_json(tmp_path / "out" / "jpeg.json")["images"]) == [r"\xff.png"]


def test_a_rival_that_fails_midway_is_left_out_of_that_picture(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    for name, seed in {"a.png": 1, "b.png": 2}.items():
        Image.fromarray(photo_pixels(48, 64, seed)).save(tmp_path / "set" / name)
    calls = []
    original = rival_codecs._webp

    def failing(quality):
        calls.append(quality)
        if len(calls) == 3:
            raise SystemError("broken encoder")
        return original(quality)

    monkeypatch.setattr(rival_codecs, "_webp", failing)
    assert evaluate(tmp_path / "set", tmp_path / "out") == 3
    notes = strict_json(tmp_path / "out" / "bd.json")["notes"]
    assert notes[0] == "a.png: webp could not code it: SystemError: broken encoder"
    monkeypatch.undo()
    assert evaluate(tmp_path / "set", tmp_path / "out", "--resume") == 0
    assert strict_json(tmp_path / "out" / "bd.json")["notes"] == []


def test_a_rival_raises_errors_of_ours_alone():
    rival = next(r for r in rival_codecs.rivals() if r.name == "webp")
    picture = Picture(pixels=np.zeros((2, 16384, 3), np.uint8))
    with pytest.raises(ImageError, match="16383"):
        RivalContender(rival).encode(picture, 50)
    with pytest.raises(ImageError):
        RivalContender(rival).decode(b"no file")


def test_metrics_asked_for_must_exist(tmp_path, capsys):
    assert [m.field for m in chosen([""])] == ["psnr_db", "ms_ssim", "ssimulacra2"]
    Image.fromarray(photo_pixels(40, 50)).save(tmp_path / "a.png")
    assert evaluate(tmp_path, tmp_path / "out", "--metrics", "vmaf") == 5
    assert "vmaf" in capsys.readouterr().err
