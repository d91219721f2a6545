"""``--tune`` on the command line, in reports and in Pillow."""

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
    Image.fromarray(photo_pixels(80, 96)).save(path)
    return path


def test_file_for_the_eye_says_so_and_decodes(photo, eye_checkpoint, tmp_path, capsys):
    model = ["--model", str(eye_checkpoint)]
    for taste, tune in (("eye", 1.0), ("psnr", 0.0)):
        file = tmp_path / f"{taste}.mbic"
        assert main(["compress", str(photo), "-o", str(file), "--tune", taste, *model]) == 0
        capsys.readouterr()
        assert main(["info", str(file), "--json", "--verify", *model]) == 0
        assert json.loads(capsys.readouterr().out)["tune"] == tune
        assert main(["decompress", str(file), "-o", str(tmp_path / f"{taste}.png"), *model]) == 0
    assert main(["compress", str(photo), "-o", str(tmp_path / "default.mbic"), *model]) == 0
    eye, default = (tmp_path / f"{name}.mbic" for name in ("eye", "default"))
    assert default.read_bytes() == eye.read_bytes()


def test_a_target_of_psnr_is_met_by_the_weights_for_psnr(photo, eye_checkpoint, tmp_path):
    file = tmp_path / "photo.mbic"
    options = ["--model", str(eye_checkpoint), "--target-psnr", "18"]
    assert main(["compress", str(photo), "-o", str(file), *options]) == 0
    assert describe(file.read_bytes())["tune"] == 0


def test_rate_control_keeps_the_tune(photo, eye_checkpoint, tmp_path):
    first, file = tmp_path / "first.mbic", tmp_path / "x.mbic"
    options = ["--model", str(eye_checkpoint), "--tune", "eye"]
    assert main(["compress", str(photo), "-o", str(first), "-q", "50", *options]) == 0
    size = ["--target-size", str(first.stat().st_size)]
    assert main(["compress", str(photo), "-o", str(file), *size, *options]) == 0
    assert file.read_bytes() == first.read_bytes()
    assert describe(file.read_bytes())["tune"] == 1


@pytest.mark.parametrize("command", ["compress", "eval"])
def test_unknown_taste_is_a_usage_error(photo, tmp_path, command):
    options = ["-o", str(tmp_path / "x"), "--tune", "ear"]
    assert main([command, str(photo), *options]) == 2


def test_report_has_a_curve_for_each_taste(photo, eye_checkpoint, tmp_path):
    out = tmp_path / "report"
    options = ["--model", str(eye_checkpoint), "--codecs", "mbic", "--tune", "psnr,eye"]
    assert main(["eval", str(photo), "-o", str(out), "--qualities", "30,70", *options]) == 0
    codecs = json.loads((out / "run.json").read_text())["codecs"]
    assert list(codecs) == ["mbic", "mbic-eye"]
    assert codecs["mbic"]["library"] != codecs["mbic-eye"]["library"]


def test_pillow_takes_a_tune(photo, eye_checkpoint, tmp_path):
    for tune in (0.0, 0.5):
        out = tmp_path / f"{tune}.mbic"
        Image.open(photo).save(out, model=str(eye_checkpoint), tune=tune)
        assert describe(out.read_bytes())["tune"] == tune
