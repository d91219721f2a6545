"""Training of the networks for the finest colours alone."""

from __future__ import annotations

import numpy as np
import torch
from conftest import make_model
from PIL import Image

from mambaic import checkpoint
from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import Lattice, Site
from mambaic.config import PRESETS
from mambaic.entropy_model.finer import HIGHEST, KNOT_STEP
from mambaic_train.config import TrainConfig
from mambaic_train.fine_colour import ScaleCount, train_fine


def test_only_what_is_trained_changes_and_files_name_the_same_weights(tmp_path):
    model = make_model(PRESETS["unit"])
    checkpoint.save_model(model, tmp_path / "before")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (800, 800, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photos" / "noise.png")
    settings = TrainConfig(steps=2, lr=2e-3)
    train_fine(
        str(tmp_path / "before"), [tmp_path / "photos"], tmp_path / "after", settings, crops=2
    )
    before, after = (checkpoint.load_model(tmp_path / name) for name in ("before", "after"))
    old, new = before.state_dict(), after.state_dict()
    changed = {name for name in new if not torch.equal(old[name], new[name])}
    assert changed
    assert all(name.startswith("entropy_model.fine.") for name in changed)
    assert any("scales" in name for name in changed)
    assert any("colour" in name for name in changed)
    assert before.fine_id != after.fine_id
    trained = [name for name in changed if "colour" in name and name.endswith("weight")]
    moved = max(float((old[name] - new[name]).abs().max()) for name in trained)
    assert moved <= 3 * 2 * settings.lr  # they went on from their own weights


def test_scales_that_are_wrong_are_corrected_by_as_much():
    """Channel 0 is predicted half as large as it is, channel 1 right."""
    generator = torch.Generator().manual_seed(0)
    counts = ScaleCount(2)
    for eighth in range(1, 8 * 8, 2):  # the middle of every bin
        predicted = float(np.exp(HIGHEST - eighth * KNOT_STEP / 8))
        y = predicted * torch.randn(1, 2, 64, 64, generator=generator)
        y[:, 0] *= 2
        log_scale = torch.full((1, 64 * 64, 2), float(np.log(predicted)))
        prior = Prior(torch.zeros_like(log_scale), log_scale)
        counts.add(Site("y", slice(0, 2), Lattice.EVERY), prior, y)
    offsets = counts.offsets()[:, 1:6]  # the first one leads there from no correction
    torch.testing.assert_close(offsets[0], torch.full((5,), 0.693), atol=0.12, rtol=0)
    torch.testing.assert_close(offsets[1], torch.zeros(5), atol=0.12, rtol=0)
