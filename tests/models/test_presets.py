"""Every preset codes and decodes at awkward sizes and in batches; sizes stay within the plan."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mambaic.codec import Codec
from mambaic.config import PRESETS
from mambaic.imaging.metrics import psnr_db
from mambaic.models.complexity import count
from mambaic.models.model import MambaIC
from mambaic.models.wavelet_transforms import WaveletTransform

SIZES = [(1, 1), (17, 5), (64, 64), (257, 131)]
BIG = pytest.param("paper", marks=pytest.mark.slow)
# parameters in millions, kMAC per pixel of encoder and decoder (design: section 3)
LIMITS = {"unit": (0.3, 30), "s": (8, 30), "b": (22, 150)}


@pytest.fixture(scope="module", params=["unit", "s", "b", BIG])
def codec(request):
    torch.manual_seed(0)
    model = MambaIC(PRESETS[request.param]).eval()
    model.entropy_model.update()
    model.weights_id = bytes(4)
    return Codec(model)


def noise(height, width):
    rng = np.random.default_rng(height)
    smooth = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return smooth.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_round_trip(codec, size):
    """Untrained networks add nothing to the wavelet shortcut, which alone gives the picture back;
    the published transforms have none."""
    pixels = np.asarray(noise(*size))
    decoded = np.asarray(codec.decode(codec.encode(Image.fromarray(pixels), 50)))
    assert decoded.shape == pixels.shape
    if isinstance(codec.model.transform, WaveletTransform):
        assert psnr_db(pixels, decoded) > 15


def test_batch_forward_equals_single(codec):
    """Estimates and reconstructions of a batch are those of its images."""
    size = 64 if codec.model.config.name == "paper" else 128
    x = torch.rand(2, 3, size, 64, generator=torch.Generator().manual_seed(0))
    q = torch.tensor([20.0, 80.0])
    with torch.no_grad():
        both = codec.model(x, q)
        for row in range(2):
            one = codec.model(x[row : row + 1], q[row : row + 1])
            assert torch.allclose(both.x_hat[row], one.x_hat[0], atol=1e-3)
            assert float(both.bits[row]) == pytest.approx(float(one.bits[0]), rel=1e-3)


@pytest.mark.parametrize("name", LIMITS)
def test_size_and_cost(name):
    megaparameters, kmac = LIMITS[name]
    result = count(PRESETS[name])
    assert result["parameters"]["total"] <= megaparameters * 1e6
    assert result["kmac_per_pixel"]["encoder"] <= kmac
    assert result["kmac_per_pixel"]["decoder"] <= kmac
