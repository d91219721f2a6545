"""The linear shortcut: perfect reconstruction, nearly orthonormal, in fp32 under autocast."""

from __future__ import annotations

import pytest
import torch
from conftest import photo_like
from torch.nn import functional as F

from mambaic.nn.wavelet import PACKED, WaveletPacking


@pytest.fixture
def packing():
    return WaveletPacking([PACKED])


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


@pytest.mark.parametrize("groups", [[PACKED], [16, 48]])
def test_squares_lie_where_the_inverse_puts_them(groups):
    """Latents of random signs and known size: what their pictures have, 4x4 pixels by 4x4."""
    generator = torch.Generator().manual_seed(1)
    packing = WaveletPacking(groups)
    size = torch.rand(1, sum(groups), 6, 6, generator=generator) ** 4
    signs = torch.rand(200, *size.shape[1:], generator=generator).sub(0.5).sign()
    pictures = packing.inverse(signs * size) - packing.mean.view(1, 3, 1, 1)
    found = F.avg_pool2d(pictures.square().sum(dim=1, keepdim=True).mean(dim=0), 4)
    blocks = torch.einsum("mo,bmhw->bohw", packing.shares(), size**2)
    expected = F.pixel_shuffle(blocks, 4)[0]
    inner = (..., slice(4, -4), slice(4, -4))  # borders are mirrored
    assert float(found[inner].sum() / expected[inner].sum()) == pytest.approx(1, abs=0.1)
    logs = torch.stack([found[inner].log().flatten(), expected[inner].log().flatten()])
    assert torch.corrcoef(logs)[0, 1] > 0.6


def test_calibration_orders_groups_by_energy():
    packing = WaveletPacking([16, 48])
    packing.calibrate(photo_like(256, 256))
    first, second = packing.deviation.split([16, 48])
    assert first.min() >= second.max()
    assert torch.allclose(packing.colour @ packing.colour.T, torch.eye(3), atol=1e-5)
    assert len(set(packing.channels.tolist())) == 64


def test_neighbouring_coefficients_are_far_apart_within_a_group():
    """All coefficients as one group: each quarter holds one place of every 2x2 of a band, the
    second the diagonal neighbours of the first; here those of the finest bands."""
    quarters = WaveletPacking([PACKED]).channels.view(4, -1)
    quarters = quarters[quarters < 3 * 3 * 64].view(4, -1)
    row, column = quarters % 64 // 8 % 2, quarters % 8 % 2
    for quarter, place in enumerate([(0, 0), (1, 1), (0, 1), (1, 0)]):
        assert (row[quarter] == place[0]).all()
        assert (column[quarter] == place[1]).all()
