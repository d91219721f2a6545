"""``--grain`` on the command line, in reports and in Pillow."""

from __future__ import annotations

import json

import pytest
from conftest import photo_pixels
from PIL import Image

import mambaic  # noqa: F401  (registers the plugin)
from mambaic.container.fields import describe
from mambaic_cli.main import main


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(photo_pixels(120, 130)).save(path)
    return path


def test_grain_is_asked_for(photo, eye_checkpoint, tmp_path, capsys):
    model = ["--model", str(eye_checkpoint)]
    for options in ([], ["--grain"]):
        file = tmp_path / f"{len(options)}.mbic"
        assert main(["compress", str(photo), "-o", str(file), "-q", "20", *options, *model]) == 0
        capsys.readouterr()
        assert main(["info", str(file), "--json", "--verify", *model]) == 0
        chunks = json.loads(capsys.readouterr().out)["chunks"]
        assert chunks.get("grain") == (10 if options else None)
        assert main(["decompress", str(file), "-o", str(file.with_suffix(".png")), *model]) == 0
    assert (tmp_path / "0.png").read_bytes() != (tmp_path / "1.png").read_bytes()


def test_rate_control_keeps_the_grain(photo, eye_checkpoint, tmp_path):
    file = tmp_path / "x.mbic"
    options = ["--model", str(eye_checkpoint), "--grain", "--target-bpp", "2"]
    assert main(["compress", str(photo), "-o", str(file), *options]) == 0
    assert describe(file.read_bytes())["chunks"]["grain"] == 10


def test_report_has_a_curve_with_grain_and_one_without(photo, eye_checkpoint, tmp_path):
    out = tmp_path / "report"
    options = ["--model", str(eye_checkpoint), "--codecs", "mbic", "--tune", "psnr", "--grain"]
    assert main(["eval", str(photo), "-o", str(out), "--qualities", "20", *options]) == 0
    assert list(json.loads((out / "run.json").read_text())["codecs"]) == ["mbic", "mbic-grain"]


def test_pillow_takes_grain(photo, eye_checkpoint, tmp_path):
    out = tmp_path / "x.mbic"
    Image.open(photo).save(out, model=str(eye_checkpoint), quality=20, grain=True)
    assert describe(out.read_bytes())["chunks"]["grain"] == 10
