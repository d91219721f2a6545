"""Growing a trained model: the same pictures and bits at first, and new blocks that learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import photo_like, photo_pixels
from PIL import Image

from mambaic import checkpoint
from mambaic.config import PRESETS, ModelConfig
from mambaic.errors import ConfigError
from mambaic.models.growing import grow
from mambaic_cli.main import main

UNIT = PRESETS["unit"]
DEEP = replace(
    UNIT,
    name="deep",
    analysis8="rv",
    analysis16="va",
    synthesis16="vr",
    synthesis8="rar",
    context_blocks="vava",
)


pytestmark = pytest.mark.usefixtures("small_tables")


def computed(model, quality=40.0):
    with torch.no_grad():
        return model.eval()(photo_like(128, 64), torch.tensor([quality]))


def assert_same(first, second):
    assert torch.allclose(first.x_hat, second.x_hat, atol=1e-5)
    assert first.bits.tolist() == pytest.approx(second.bits.tolist(), rel=1e-5)


def test_grown_model_computes_the_same(private_unit_model):
    grown = grow(private_unit_model, DEEP)
    assert grown.config == DEEP
    assert_same(computed(grown), computed(private_unit_model))


def test_every_new_block_learns(private_unit_model):
    grown = grow(private_unit_model, DEEP).train()
    known = dict(private_unit_model.named_parameters())
    new = {name: p for name, p in grown.named_parameters() if name not in known}
    assert {name.split(".")[1] for name in new} == {"analysis", "synthesis", "refine"}
    optimiser = torch.optim.Adam(grown.parameters(), lr=1e-3)
    for _ in range(2):  # what lies before a layer of zeros gets its gradient from the second step
        output = grown(photo_like(128, 64), torch.tensor([40.0]))
        optimiser.zero_grad()
        (output.bits.sum() + output.x_hat.square().sum()).backward()
        optimiser.step()
    still = [name for name, p in new.items() if p.grad is None or not p.grad.any()]
    assert not still


def test_shipped_weights_grow_into_b():
    model = checkpoint.load_model("s")
    assert_same(computed(grow(model, PRESETS["b"])), computed(model))


@pytest.mark.parametrize(
    ("change", "named"),
    [({"width8": 24}, "width8"), ({"analysis8": "vr"}, "analysis8"), ({"halo": 4}, "halo")],
    ids=str,
)
def test_what_is_not_the_same_with_more_blocks_is_refused(private_unit_model, change, named):
    with pytest.raises(ConfigError, match=named):
        grow(private_unit_model, replace(DEEP, **change))


@pytest.mark.filterwarnings("ignore")
def test_command_grows_a_checkpoint(tmp_path, monkeypatch, capsys, private_unit_model):
    monkeypatch.setitem(PRESETS, "deep", DEEP)
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(photo_pixels(96, 128)).save(photos / "0.png")
    small, run = tmp_path / "small", tmp_path / "run"
    checkpoint.save_model(private_unit_model, small)

    def train(out, *more):
        size = ["--steps", "1", "--batch", "2", "--crop", "64"]
        return main(["train", "--data", str(photos), "--out", str(out), *size, *more])

    assert train(run, "--init", str(small), "--preset", "deep") == 0
    written = checkpoint.read_config(run / "checkpoint")
    assert ModelConfig.from_dict(written["model"]) == DEEP
    assert written["card"]["train"]["preset"] == "deep"
    # without --preset the checkpoint's own; a run keeps its preset; what cannot grow is named
    again = tmp_path / "again"
    assert train(again, "--init", str(run / "checkpoint")) == 0
    assert checkpoint.read_config(again / "checkpoint")["card"]["train"]["preset"] == "deep"
    assert train(run, "--resume", "--preset", "unit") == 5
    assert "is a run of preset deep" in capsys.readouterr().err
    assert train(tmp_path / "no", "--init", str(run / "checkpoint"), "--preset", "unit") == 5
    assert "cannot grow into unit" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
