"""The mean of checkpoints: its weights, what has none, and a whole folder or nothing."""

from __future__ import annotations

import pytest
import torch
from conftest import make_model, photo_pixels
from PIL import Image

from mambaic import checkpoint, load
from mambaic.config import PRESETS
from mambaic_cli.main import main

UNIT = PRESETS["unit"]
pytestmark = pytest.mark.usefixtures("small_tables")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(photo_pixels(256, 320)).save(folder / "0.png")
    return folder


def test_mean_of_two_checkpoints_codes(tmp_path, photos, capsys):
    first, second, out = (tmp_path / name for name in ("first", "second", "out"))
    models = [make_model(UNIT), make_model(UNIT, seed=1)]
    # the same basis, as after training from the same weights
    models[1].transform.wavelet.load_state_dict(models[0].transform.wavelet.state_dict())
    for folder, model in zip((first, second), models, strict=True):
        checkpoint.save_model(model, folder, half=False)
    assert main(["average", str(first), str(second), "--data", str(photos), "--out", str(out)]) == 0
    mean = checkpoint.load_model(out)
    assert mean.weights_id.hex() in capsys.readouterr().out
    for name, value in mean.named_parameters():
        both = [dict(model.named_parameters())[name] for model in models]
        assert torch.allclose(value, (both[0] + both[1]) / 2, atol=1e-3, rtol=1e-3), name
    card = checkpoint.read_config(out)["card"]
    assert card["mean_of"] == [checkpoint.read_config(f)["weights_id"] for f in (first, second)]
    picture = Image.open(photos / "0.png")
    codec = load(out)
    assert codec.decode(codec.encode(picture, 40)).size == picture.size


def test_what_has_no_mean_is_refused(tmp_path, photos, capsys):
    first, out = tmp_path / "first", tmp_path / "out"
    checkpoint.save_model(make_model(UNIT), first)
    assert main(["average", str(first), "s", "--data", str(photos), "--out", str(out)]) == 5
    assert "come from the same weights" in capsys.readouterr().err
    assert not out.exists()
    out.mkdir()
    assert main(["average", str(first), "--data", str(photos), "--out", str(out)]) == 5
    assert "exists" in capsys.readouterr().err
    assert not list(out.iterdir())
