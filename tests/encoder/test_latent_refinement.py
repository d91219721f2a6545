"""Latents refined for one picture: never worse, the same every time, any size, bounded blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import photo_pixels
from matplotlib.cbook import get_sample_data
from PIL import Image

from mambaic.codec import Codec, load
from mambaic.coding.estimator import Estimator
from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import Site
from mambaic.container.fields import tile_grid
from mambaic.encoder import latent_refinement as refining
from mambaic.encoder.latent_refinement import RefiningEstimator, refine
from mambaic.imaging.image import Picture
from mambaic.tiling.analysis import analyse, visible_region

STEPS = 12


def cost(codec, picture, quality, **options):
    """bits + lmbda 255**2 mse pixels of a file"""
    data = codec.encode(picture, quality, **options)
    error = codec.decode_picture(data).pixels.astype(float) - picture.pixels
    return 8 * len(data) + codec.model.config.lmbda(quality) * np.sum(error**2) / 3


@pytest.mark.parametrize("quality", [pytest.param(20, marks=pytest.mark.slow), 60])
def test_shipped_weights_gain_in_real_files(quality):
    codec = load("s", "cpu")
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as photo:
        picture = Picture(pixels=np.asarray(photo.convert("RGB"))[118:310, 118:310])
    plain = cost(codec, picture, quality)
    # 0.8 % on average of eight pictures of this size, 0.2 to 1.6 % of one
    assert cost(codec, picture, quality, effort=7) < 0.996 * plain


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 70), (130, 140)])
def test_any_size_is_the_same_twice(unit_model, monkeypatch, brief_refinement, height, width):
    monkeypatch.setattr(refining, "BLOCK", 4)
    codec = Codec(unit_model)
    picture = Picture(pixels=photo_pixels(height, width))
    parts = []
    first = codec.encode(
        picture, 50, effort=9, tile=8, progress=lambda done, count: parts.append((done, count))
    )
    assert codec.encode(picture, 50, effort=9, tile=8) == first
    assert codec.decode(first).size == (width, height)
    expected = sum(len(refining.blocks(box)) for box in tile_grid(width, height, 8))
    assert parts == [(i, expected) for i in range(1, expected + 1)]


def test_every_block_may_only_gain(unit_model, monkeypatch):
    """Steps that make things worse are thrown away, so the latents come back as they were."""
    pixels = photo_pixels(128, 128)
    box = (0, 0, 8, 8)
    y = analyse(unit_model, pixels, box, 50.0)
    monkeypatch.setattr(refining, "LEARNING_RATE", 100.0)
    assert torch.equal(refine(unit_model, pixels, box, y, 50.0, 3), y)


def test_a_block_leaves_its_neighbours_alone(unit_model, monkeypatch):
    pixels = photo_pixels(128, 256)
    box = (0, 0, 8, 16)
    y = analyse(unit_model, pixels, box, 50.0)
    monkeypatch.setattr(refining, "blocks", lambda tile: [(0, 8, 8, 8)])
    refined = refine(unit_model, pixels, box, y, 50.0, STEPS)
    assert torch.equal(refined[..., :8], y[..., :8])
    assert not torch.equal(refined[..., 8:], y[..., 8:])


def test_every_step_sees_what_a_file_holds(unit_model):
    """Values are those of a search as files are coded by; what they leave out costs what a 0 does,
    whatever it is, and has no gradient."""
    shape = unit_model.entropy_model.mixture()
    generator = torch.Generator().manual_seed(0)
    log_scale = torch.empty(1, 1024, 4).uniform_(-3.0, 3.0, generator=generator)
    residual = 2 * log_scale.exp() * torch.randn(log_scale.shape, generator=generator)
    skipped = shape.skipped(log_scale)
    assert 0.2 < skipped.float().mean() < 0.8
    site, priors = Site("y", slice(0, 4)), Prior(torch.zeros_like(residual), log_scale)

    def coded(latents, kind=RefiningEstimator, **options):
        estimator = kind({}, shape, **options)
        estimator._source = lambda site: latents
        return estimator.code_alone(site, priors), estimator

    latents = residual.clone().requires_grad_()
    values, estimator = coded(latents, width=0.2)
    assert torch.equal(values.detach(), coded(residual, Estimator)[0])
    values.sum().backward()
    assert (latents.grad[skipped] == 0).all()
    assert (latents.grad[~skipped] != 0).float().mean() > 0.9
    far = torch.where(skipped, 100 * residual, residual)
    assert torch.equal(estimator.bits(), coded(far)[1].bits())


def test_processors_without_bfloat16_refine_in_float32(unit_model, monkeypatch):
    """Both precisions gain alike, and not by the same latents: searches part at a last bit, so
    only the first steps are compared."""
    pixels, box, quality = photo_pixels(128, 128), (0, 0, 8, 8), 50.0
    y = analyse(unit_model, pixels, box, quality)
    task = refining._Block(unit_model, visible_region(pixels, box), quality)
    refined = []
    for native in (False, True):
        monkeypatch.setattr(refining, "multiplies_bfloat16", lambda device, native=native: native)
        refined.append(refine(unit_model, pixels, box, y, quality, 4))
    for latents in refined:
        assert not torch.equal(latents, y)
    before, single, half = (task.cost(latents) for latents in (y, *refined))
    assert before - single > 0
    assert before - half == pytest.approx(before - single, rel=0.1)
    assert not torch.equal(*refined)
    assert (refined[0] - refined[1]).abs().mean() < 0.1 * (refined[0] - y).abs().mean()
