"""What a run leaves behind stays whole when the disk takes no more. (Its state: test_training.)"""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import make_model
from safetensors import SafetensorError

from mambaic.checkpoint import save_model
from mambaic.config import PRESETS
from mambaic.errors import CheckpointError, OutputError
from mambaic_train.card import write_card


def facts(steps):
    return {"preset": "unit", "steps": steps, "train": {}}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O")])
def test_a_disk_that_takes_no_more_keeps_the_previous_checkpoint(tmp_path, monkeypatch, error):
    folder = tmp_path / "checkpoint"
    model = make_model(PRESETS["unit"])
    save_model(model, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(tensors, path):
        Path(path).write_bytes(b"half")
        raise error

    monkeypatch.setattr("mambaic.checkpoint.save_file", full)
    with pytest.raises(CheckpointError, match="checkpoint not written"):
        save_model(model, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_disk_that_takes_no_more_keeps_the_previous_card(tmp_path, monkeypatch):
    write_card("00ff", tmp_path, facts(1), [])
    before = (tmp_path / "MODEL_CARD.md").read_bytes()

    def full(path, data):
        path.write_bytes(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mambaic.imaging.atomic_files._write_through", full)
    with pytest.raises(OutputError, match="No space left"):
        write_card("00ff", tmp_path, facts(2), [])
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [
        ("MODEL_CARD.md", before)
    ]
