"""SSIMULACRA2 against the scores of libjxl's own program (devtools of libjxl 0.11.2)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import photo_pixels

from mambaic.imaging.ssimulacra2 import score, ssimulacra2


def coarse(pixels: np.ndarray, step: int) -> np.ndarray:
    """Values in steps: banding."""
    return (pixels // step * step).astype(np.uint8)


def blocks(pixels: np.ndarray, side: int) -> np.ndarray:
    """Means of blocks."""
    height, width = (n // side * side for n in pixels.shape[:2])
    cut = pixels[:height, :width].reshape(height // side, side, width // side, side, 3)
    means = cut.mean(axis=(1, 3)).round().astype(np.uint8)
    out = pixels.copy()
    out[:height, :width] = means.repeat(side, axis=0).repeat(side, axis=1)
    return out


def noisy(pixels: np.ndarray, strength: int) -> np.ndarray:
    noise = np.random.default_rng(1).integers(-strength, strength + 1, pixels.shape)
    return (pixels + noise).clip(0, 255).astype(np.uint8)


def gray(pixels: np.ndarray) -> np.ndarray:
    """Without its colours."""
    return np.repeat(pixels[..., 1:2], 3, axis=2)


PAIRS = {  # height, width, what is done to the picture, score of libjxl's program
    "banding": (256, 320, lambda x: coarse(x, 32), 62.374),
    "fine-banding": (256, 320, lambda x: coarse(x, 12), 86.799),
    "blocks-of-2": (240, 301, lambda x: blocks(x, 2), 62.806),
    "blocks-of-8": (257, 320, lambda x: blocks(x, 8), -58.366),
    "noise": (320, 256, lambda x: noisy(x, 16), 73.750),
    "little-noise": (320, 256, lambda x: noisy(x, 4), 91.864),
    "colourless": (256, 256, gray, 30.171),
    "darker": (256, 256, lambda x: (x * 0.9).astype(np.uint8), 65.381),
    "four-scales": (61, 97, lambda x: coarse(x, 24), 46.787),
    "one-scale": (9, 15, lambda x: noisy(x, 9), 93.073),
}


def pair(name: str) -> tuple[np.ndarray, np.ndarray]:
    height, width, change, _ = PAIRS[name]
    reference = photo_pixels(height, width, seed=5)
    return reference, change(reference)


@pytest.mark.parametrize("name", PAIRS)
def test_score_is_that_of_the_published_program(name):
    assert ssimulacra2(*pair(name)) == pytest.approx(PAIRS[name][3], abs=0.1)


def test_equal_pictures_score_100():
    pixels = photo_pixels(70, 90)
    assert ssimulacra2(pixels, pixels.copy()) == 100
    black = np.zeros((64, 64, 3), np.uint8)
    assert ssimulacra2(black, black) == 100


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 400, 3), (400, 7, 3)])
def test_pictures_without_a_scale_have_no_score(shape):
    pixels = np.zeros(shape, np.uint8)
    assert ssimulacra2(pixels, pixels) is None


def test_inputs_may_be_read_only_and_stay_as_they_are():
    reference, decoded = pair("noise")
    for pixels in (reference, decoded):
        pixels.setflags(write=False)
    before = reference.copy()
    ssimulacra2(reference, decoded)
    assert (reference == before).all()


def test_score_falls_with_damage_and_has_a_gradient():
    reference, decoded = (torch.from_numpy(x / 255).permute(2, 0, 1) for x in pair("four-scales"))
    decoded.requires_grad_()
    value = score(reference, decoded)
    value.backward()
    assert torch.isfinite(decoded.grad).all()
    better = (decoded + 1e-3 * decoded.grad / decoded.grad.abs().max()).clamp(0, 1)
    assert score(reference, better.detach()) > value
