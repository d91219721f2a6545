"""What is written while a run goes on: enough to go on from, and a checkpoint that codes."""

from __future__ import annotations

import pytest
import torch
from conftest import photo_pixels
from PIL import Image

from mambaic import checkpoint, load
from mambaic.config import PRESETS
from mambaic.models.model import MambaIC
from mambaic_train.attendant import Attendant
from mambaic_train.config import TrainConfig
from mambaic_train.data import PhotoSet
from mambaic_train.export import Exporter
from mambaic_train.loop import Trainer, run

pytestmark = [pytest.mark.usefixtures("small_tables"), pytest.mark.filterwarnings("ignore")]
CONFIG = TrainConfig(preset="unit", steps=3, batch=2, crop=64, large_crop=64, precision="fp32")


@pytest.fixture
def data(tmp_path):
    Image.fromarray(photo_pixels(96, 80)).save(tmp_path / "0.png")
    return PhotoSet([tmp_path / "0.png"], min_side=64)


def trained(data, out, keep_every_s, tables):
    torch.manual_seed(0)
    model = MambaIC(PRESETS["unit"])
    if tables:
        model.entropy_model.update()
    trainer, reports = Trainer(model, CONFIG), []
    exporter = Exporter(out, data, [], [])
    with Attendant(trainer, exporter, out, keep_every_s) as attendant:
        run(
            trainer, data, time_limit_s=None,
            on_step=lambda report: (reports.append(report), attendant(report)),
        )  # fmt: skip
    return trainer, [report.loss for report in reports]


@pytest.mark.parametrize("tables", [False, True])
def test_a_run_that_is_cut_off_has_a_state_and_a_checkpoint(data, tmp_path, tables):
    trainer, losses = trained(data, tmp_path / "kept", 0.0, tables)
    card = checkpoint.read_config(tmp_path / "kept" / "checkpoint")["card"]
    assert card["steps"] == 3
    assert "| steps | 3 |" in (tmp_path / "kept" / "checkpoint" / "MODEL_CARD.md").read_text()
    assert (trainer.model.entropy_model.tables is not None) == tables
    model = checkpoint.load_model(tmp_path / "kept" / "checkpoint")
    weights = trainer.average.values["entropy_model.shape_logit"]
    assert torch.equal(model.entropy_model.shape_logit, weights)
    codec = load(tmp_path / "kept" / "checkpoint")
    picture = Image.fromarray(photo_pixels(64, 80))
    assert codec.decode(codec.encode(picture, 40)).size == picture.size
    assert Trainer.resume(tmp_path / "kept", None).step == 3
    # and it takes the course of one that writes nothing
    other, expected = trained(data, tmp_path / "other", 1e9, tables)
    assert losses == expected
    assert not (tmp_path / "other" / "checkpoint").exists()
    pairs = zip(trainer.parameters, other.parameters, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
