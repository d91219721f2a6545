"""Transforms by products of bytes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mambaic.config import PRESETS
from mambaic.fixed_point import byte_networks, byte_products
from mambaic.models import model as models
from mambaic.models.model import MambaIC

pytestmark = pytest.mark.skipif(
    not byte_products.exact_bytes(), reason="this CPU has no exact products of bytes"
)


@pytest.fixture(autouse=True)
def however_small(monkeypatch):
    monkeypatch.setattr(byte_products, "LEAST", 0)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 50.0])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_keeps_eleven_bits(scale, bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(24, 32, 3, padding=1, bias=bias)
    x = scale * torch.randn(1, 24, 9, 10)
    with torch.no_grad():
        expected, found = conv(x), byte_networks.with_bytes(nn.Sequential(conv))(x)
    error = (found - expected).std()
    assert error <= expected.std() / 150
    assert scale == 0.0 or error > 0.0  # it was not in float32


def unit_model():
    torch.manual_seed(1)
    return MambaIC(PRESETS["unit"]).eval()


def test_weights_are_shared_and_followed():
    model = unit_model()
    x, q = torch.rand(1, 3, 64, 64), torch.tensor([40.0])
    with torch.no_grad():
        first = model.coding_transform.g_a(x, q)
        assert torch.allclose(first, model.g_a(x, q), atol=0.1)
        assert model.coding_transform is model.coding_transform
        for parameter in model.transform.parameters():
            parameter.mul_(1.5)
        assert not torch.equal(model.coding_transform.g_a(x, q), first)
    assert not any("_in_bytes" in name for name in model.state_dict())


def test_training_and_other_cpus_have_none(monkeypatch):
    model = unit_model()
    monkeypatch.setattr(models, "exact_bytes", lambda: False)
    assert model.coding_transform is model.transform
