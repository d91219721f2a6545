"""Latents of halftones and noise are completed by what g_s misses; photographs stay as they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import photo_pixels
from PIL import Image, ImageFilter

from mambaic.codec import load
from mambaic.encoder import tile_encoder
from mambaic.encoder.completion import complete, drawn_better
from mambaic.imaging.image import Picture
from mambaic.imaging.metrics import psnr_db
from mambaic.reconstruction.rotation import IDENTITY, Rotation
from mambaic.tiling.analysis import analyse
from mambaic.tiling.boxes import picture_box


def halftone(side=128, cell=6.0):
    """A flat brown in turned dots of cyan, magenta and yellow."""
    y, x = np.mgrid[: 2 * side, : 2 * side] / 2
    planes = []
    for angle, tone in [(15, 0.3), (75, 0.55), (0, 0.7)]:
        turn = math.radians(angle)
        u, v = (x * math.cos(turn) + y * math.sin(turn)), (y * math.cos(turn) - x * math.sin(turn))
        screen = (np.cos(2 * math.pi * u / cell) + np.cos(2 * math.pi * v / cell)) / 4 + 0.5
        planes.append(np.where(screen < tone, 235, 30).astype(np.uint8))
    image = Image.fromarray(np.stack(planes, axis=2)).resize((side, side), Image.Resampling.BOX)
    return np.array(image.filter(ImageFilter.GaussianBlur(0.7)))


def completed(model, pixels, quality=80.0):
    """Latents before and after."""
    box = picture_box(pixels)
    y = analyse(model, pixels, box, quality)
    return y, complete(model, pixels, box, y, quality, IDENTITY)


def missed(model, pixels, y, quality=80.0):
    """Root mean square of what g_s misses, in quantiser steps."""
    q, transform = torch.tensor([quality]), model.transform
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    left = x - transform.g_s(y, q) + transform.wavelet.mean.view(1, 3, 1, 1)
    return float((transform.wavelet(left) / transform.step(q)).square().mean().sqrt())


def test_what_g_s_misses_of_a_halftone_is_added(unit_model):
    pixels = halftone()
    before, after = completed(unit_model, pixels)
    assert missed(unit_model, pixels, before) > 0.2
    assert missed(unit_model, pixels, after) < 0.5 * missed(unit_model, pixels, before)


def test_photographs_are_not_reconstructed_for_it(unit_model, monkeypatch):
    monkeypatch.setattr(type(unit_model.transform), "g_s", None)
    for pixels in (photo_pixels(128, 192), photo_pixels(128, 192)[..., :1].repeat(3, axis=2)):
        before, after = completed(unit_model, pixels)
        assert after is before


def test_latents_that_get_no_better_are_kept(unit_model, monkeypatch):
    """A synthesis that answers a correction with more than it was asked for."""
    of = type(unit_model.transform)
    g_s = of.g_s
    monkeypatch.setattr(of, "g_s", lambda self, y, q: 4 * g_s(self, y, q))
    before, after = completed(unit_model, halftone())
    assert torch.equal(after, before)


@pytest.mark.parametrize("drawn", [True, False])
def test_a_far_rotation_must_be_drawn_better_than_none(unit_model, monkeypatch, drawn):
    """Turned by 62 degrees; a synthesis that draws only what is turned, or only what is not."""
    far, pixels = Rotation(-120, 10, 30), halftone()
    of, asked = type(unit_model.transform), []

    def g_a(self, x, q):
        asked.append(x)
        return self.wavelet(x) / self.step(q)

    def g_s(self, y, q):
        turned = len(asked) == 1  # the rotation is tried first
        return asked[-1] if turned == drawn else torch.zeros_like(asked[-1])

    monkeypatch.setattr(of, "g_a", g_a)
    monkeypatch.setattr(of, "g_s", g_s)
    assert drawn_better(unit_model, pixels, 80.0, far) == (far if drawn else IDENTITY)
    assert len(asked) == 2


def test_rotations_of_photographs_are_not_tried(unit_model, monkeypatch):
    monkeypatch.setattr(type(unit_model.transform), "g_a", None)
    near = Rotation(-81, 8, -34)
    assert drawn_better(unit_model, photo_pixels(128, 128), 80.0, near) == near


@pytest.mark.weights
@pytest.mark.slow
def test_halftone_with_shipped_weights(monkeypatch):
    """An eighth more bytes for 6 dB: what counts is bits and the quality's weight of errors."""
    codec, picture = load("s", "cpu"), Picture(pixels=halftone())
    weight = codec.model.config.error_weight(80.0)

    def cost():
        data = codec.encode(picture, 80, tune=0)
        decibels = psnr_db(picture.pixels, codec.decode_picture(data).pixels)
        return 8 * len(data) + weight * picture.pixels.size * 10 ** (-decibels / 10)

    after = cost()
    monkeypatch.setattr(tile_encoder, "complete", lambda model, pixels, tile, y, *rest: y)
    assert after < 0.6 * cost()
