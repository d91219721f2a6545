"""The linear shortcut: perfect reconstruction, nearly orthonormal, in fp32 under autocast."""

from __future__ import annotations

import pytest
import torch
from conftest import photo_like

from mambaic.nn.wavelet import PACKED, WaveletPacking


@pytest.fixture
def packing():
    return WaveletPacking(PACKED)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (64, 48), (272, 16)])
def test_all_channels_reconstruct_the_image(packing, height, width):
    x = photo_like(height, width)
    y = packing(x)
    assert y.shape == (1, PACKED, height // 16, width // 16)
    assert torch.allclose(packing.inverse(y), x, atol=2e-5)


def test_autocast_changes_nothing(packing):
    x = photo_like(64, 96)
    y = packing(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(packing(x), y)
        assert torch.allclose(packing.inverse(y), x, atol=2e-5)


def test_energy_is_nearly_kept(packing):
    x = photo_like(128, 128)
    energy = packing(x).pow(2).sum() / (x - packing.mean.view(1, 3, 1, 1)).pow(2).sum()
    assert 0.9 < float(energy) < 1.1


def test_calibration_orders_channels_by_energy():
    packing = WaveletPacking(64)
    packing.calibrate(photo_like(256, 256))
    assert (packing.deviation.diff() <= 0).all()
    assert torch.allclose(packing.colour @ packing.colour.T, torch.eye(3), atol=1e-5)
    assert len(set(packing.channels.tolist())) == 64
