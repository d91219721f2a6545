"""The estimate of grain: what was added is measured back, and structure is no grain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import photo_like, photo_pixels
from PIL import Image

from mambaic.codec import Codec
from mambaic.container.fields import read
from mambaic.encoder import grain_estimate
from mambaic.encoder.grain_estimate import GAINS, GrainEstimate, strengths_for
from mambaic.reconstruction.grain import KNOTS, LEVEL, STEP, Grain, bands, white_noise
from mambaic.reconstruction.post_filter import Reconstruction


def smooth(side=512):
    """Flat, with expected errors from 4 to 12 levels."""
    error = LEVEL * torch.linspace(4, 12, side).expand(side, side)
    return Reconstruction(torch.full((3, side, side), 0.5), error)


def estimate(reconstruction, x):
    found = GrainEstimate()
    found.add(reconstruction, x)
    return found.found()


def test_strengths_are_measured_back(monkeypatch):
    monkeypatch.setattr(grain_estimate, "GAINS", (1.0, 1.0))
    given = Grain(9, 8, ((16, 24, 36, 50), (10, 16, 24, 40)))
    reconstruction = smooth()
    found = estimate(reconstruction, given.add(reconstruction, 0, 0))
    assert found.first == 8
    np.testing.assert_allclose(found.strengths, given.strengths, rtol=0.2, atol=3)
    of_both = [grain.add(reconstruction, 0, 0) - 0.5 for grain in (given, found)]
    parts = [[float(band.std()) for band in bands(added[0])] for added in of_both]
    np.testing.assert_allclose(*parts, rtol=0.1)


def test_less_is_made_than_was_there():
    noise = torch.from_numpy(white_noise(0, 0, 0, 512, 512)) / 104.5 * 6 * LEVEL
    reconstruction = smooth()
    found = estimate(reconstruction, reconstruction.x_hat + noise)
    added = found.add(reconstruction, 0, 0) - reconstruction.x_hat
    fine = [float(bands(x)[0].std()) for x in (added[0], noise)]
    assert fine[0] == pytest.approx(GAINS[0] * fine[1], rel=0.1)


def test_strengths_of_overlapping_bands_add_up():
    spreads = np.array([8.0, 5.0]) * LEVEL
    steps = np.rint(strengths_for(spreads) / STEP).astype(int).tolist()
    added = Grain(0, 8, tuple((step,) * KNOTS for step in steps)).add(smooth(), 0, 0)[0]
    np.testing.assert_allclose([float(band.std()) for band in bands(added)], spreads, rtol=0.05)


def test_structure_is_no_grain():
    """Of line art edges are missing, which are few and strong."""
    x = torch.full((3, 256, 256), 0.8)
    x[:, ::64] = x[:, :, ::64] = 0.1
    reconstruction = Reconstruction(torch.full_like(x, 0.8), torch.full((256, 256), 0.05))
    assert estimate(reconstruction, x) is None


def test_nothing_missing_is_no_grain():
    x = photo_like(128, 128)[0]
    assert estimate(Reconstruction(x, torch.full((128, 128), 0.05)), x) is None


@pytest.mark.parametrize(("height", "width"), [(1, 1), (21, 300), (40, 40), (31, 78)])
def test_pictures_of_few_blocks_have_none(unit_model, height, width):
    data = Codec(unit_model).encode(Image.fromarray(photo_pixels(height, width)), 20, grain=True)
    assert "grain" not in read(data).chunks


@pytest.mark.parametrize("effort", [1, 5])
def test_every_effort_measures(unit_model, effort):
    codec = Codec(unit_model)
    data = codec.encode(Image.fromarray(photo_pixels(120, 130)), 20, grain=True, effort=effort)
    assert "grain" in read(data).chunks
