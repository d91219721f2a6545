"""The errors to expect: of every latent, and as large as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mambaic.coding.encoder import Encoder
from mambaic.coding.expected_error import CODED, ErrorWatch
from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import CHECKERBOARD, Site
from mambaic.coding.tables import build_tables


def walk(y, log_scale, coder):
    """All latents around means of 0; what is returned, as a map."""
    y_hat = torch.zeros_like(y)
    for lattice in CHECKERBOARD:
        for site in Site("y", slice(0, y.shape[1]), lattice).split(2):
            rows = site.take(log_scale)
            values = coder.code_alone(site, Prior(torch.zeros_like(rows), rows))
            y_hat[:, site.channels] += site.lattice.put(values, y.shape[-2:])
    return y_hat


@pytest.mark.parametrize(("scale", "tolerance"), [(0.02, 0.1), (0.1, 0.1), (8.0, 0.15)])
def test_what_is_expected_is_what_is_lost(scale, tolerance):
    y = scale * torch.from_numpy(np.random.default_rng(0).normal(size=(1, 8, 32, 32)))
    log_scale = torch.full_like(y, np.log(scale))
    watch = ErrorWatch(Encoder({"y": y}, build_tables(0.99, 1.1)), torch.eye(8), (32, 32))
    y_hat = walk(y, log_scale, watch)
    assert float((y_hat - y).square().mean()) == pytest.approx(
        float(watch.error.mean()), rel=tolerance
    )


def test_each_latent_has_its_own():
    generator = torch.Generator().manual_seed(0)
    log_scale = torch.randn(1, 8, 16, 16, generator=generator, dtype=torch.float64)
    y = torch.zeros_like(log_scale)
    weights = torch.rand(8, 3, generator=generator)
    watch = ErrorWatch(Encoder({"y": y}, build_tables(0.99, 1.1)), weights, (16, 16))
    walk(y, log_scale, watch)
    expected = torch.exp(2 * log_scale).clamp(max=CODED)
    expected = torch.einsum("mo,bmhw->bohw", weights.double(), expected)
    assert torch.allclose(watch.error.double(), expected, rtol=1e-5)
