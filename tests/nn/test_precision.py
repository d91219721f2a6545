"""Where bfloat16 is used: on processors that are faster with it."""

from __future__ import annotations

import pytest
import torch
from conftest import photo_pixels

from mambaic.config import TRAINED
from mambaic.encoder import fit_regions
from mambaic.nn import precision
from mambaic.nn.wavelet import BLOCKS
from mambaic.tiling import analysis


@pytest.mark.parametrize(
    ("name", "features", "faster"),
    [
        ("znver5", {"avx512bf16": True}, True),
        ("znver3", {"avx512bf16": False}, False),
        ("sapphirerapids", {"avx512bf16": True, "amx-bf16": True}, True),
        ("emeraldrapids", {"avx512bf16": True, "amx-bf16": False}, False),
        ("apple-m1", {}, False),
    ],
)
def test_processors(monkeypatch, name, features, faster):
    monkeypatch.setattr(precision, "get_host_cpu_name", lambda: name)
    monkeypatch.setattr(precision, "get_host_cpu_features", lambda: features)
    assert precision.multiplies_bfloat16(torch.device("cpu")) is faster


UP_TO_TRAINED = pytest.mark.parametrize(
    ("quality", "differ"), [(TRAINED, True), (TRAINED + 1, False)]
)


@UP_TO_TRAINED
def test_latents_are_found_in_bfloat16_where_it_is_fast_and_they_need_not_be_exact(
    unit_model, monkeypatch, quality, differ
):
    pixels = photo_pixels(64, 96)
    found = []
    for fast in (False, True):
        monkeypatch.setattr(analysis, "multiplies_bfloat16", lambda device, fast=fast: fast)
        found.append(analysis.analyse(unit_model, pixels, (0, 0, 4, 6), quality))
    assert torch.equal(*found) is not differ
    torch.testing.assert_close(*found, rtol=0.02, atol=0.1)


@UP_TO_TRAINED
def test_filters_are_fitted_to_what_bfloat16_tells_of_a_reconstruction(
    unit_model, monkeypatch, quality, differ
):
    pixels, tile = photo_pixels(64, 64), (0, 0, 4, 4)
    y = analysis.analyse(unit_model, pixels, tile, quality)
    latents = torch.cat([y, y.new_zeros(1, BLOCKS**2, 4, 4)], dim=1)
    found = []
    for fast in (False, True):
        monkeypatch.setattr(fit_regions, "multiplies_bfloat16", lambda device, fast=fast: fast)
        (region,) = fit_regions.reconstructed_regions(unit_model, pixels, tile, latents, quality)
        found.append(region.reconstruction.x_hat)
    assert torch.equal(*found) is not differ
    torch.testing.assert_close(*found, rtol=0, atol=0.02)
