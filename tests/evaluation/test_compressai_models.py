"""CompressAI's models beside ours: real files, and times that claim no more than they are."""

from __future__ import annotations

import json
from urllib.error import URLError

import numpy as np
import pytest
import torch
from conftest import photo_pixels
from PIL import Image

from mambaic.evaluation import compressai_models
from mambaic.evaluation.compressai_models import RANDOM, compressai_contender
from mambaic.imaging.image import Picture
from mambaic_cli.main import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # CompressAI's dependencies warn when imported
]


@pytest.fixture
def offline(monkeypatch):
    """CompressAI finds no weights; one small quality instead of three."""
    from compressai.zoo import image

    def refuse(*args, **kwargs):
        raise URLError("no network here")

    monkeypatch.setattr(image, "load_state_dict_from_url", refuse)
    monkeypatch.setattr(compressai_models, "QUALITIES", (1,))


def test_files_of_random_weights_decode_to_the_size(offline):
    before = torch.random.get_rng_state()
    contender = compressai_contender("bmshj2018-factorized")
    assert torch.equal(before, torch.random.get_rng_state())
    assert contender.times_only
    assert contender.name == f"bmshj2018-factorized ({RANDOM})"
    data, bits = contender.encode(Picture(pixels=photo_pixels(50, 70)), 1.0)
    assert bits is None
    assert contender.decode(data).size == (70, 50)
    assert contender.encode(Picture(pixels=photo_pixels(50, 70)), 1.0)[0] == data


def test_times_alone_are_reported(offline, tmp_path):
    (tmp_path / "set").mkdir()
    Image.fromarray(photo_pixels(64, 64)).save(tmp_path / "set" / "a.png")
    out = tmp_path / "out"
    codecs = "jpeg,compressai:bmshj2018-factorized"
    assert main(["eval", str(tmp_path / "set"), "-o", str(out), "--codecs", codecs]) == 0
    text = (out / "report.md").read_text()
    assert f"bmshj2018-factorized ({RANDOM})" in text.split("Time of a picture")[1]
    assert "bmshj2018" not in text.split("Time of a picture")[0]
    file = next(out.glob("bmshj2018*.json"))
    assert set(json.loads(file.read_text())["results"]) == {"encoding_time", "decoding_time"}
    assert np.isfinite(json.loads(file.read_text())["results"]["decoding_time"]).all()


def test_an_unknown_architecture_is_named(tmp_path, capsys):
    Image.fromarray(photo_pixels(64, 64)).save(tmp_path / "a.png")
    command = ["eval", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--codecs"]
    assert main([*command, "compressai:elic"]) == 5
    assert "mbt2018-mean" in capsys.readouterr().err
