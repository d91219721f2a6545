"""The rotation of colours: what a file keeps of it, and which one an encoder takes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from conftest import make_model, photo_like, photo_pixels
from PIL import Image
from scipy.spatial.transform import Rotation as Reference
from torch.nn import functional as F

from mambaic.codec import load
from mambaic.config import PRESETS, VSSConfig
from mambaic.container import fields
from mambaic.encoder.rotation_search import find_rotation
from mambaic.errors import CorruptStream
from mambaic.imaging.colour_axes import PLANES
from mambaic.imaging.image import read_image
from mambaic.reconstruction.rotation import IDENTITY, LARGEST, STEP_DEG, Rotation, matrix

SOME = Rotation(50, -9, 4)


@pytest.fixture(scope="module")
def codec():
    """With weights that keep colours: the shipped ones."""
    return load("s", "cpu")


@pytest.fixture
def linear(private_unit_model):
    """A model whose axes of colours are PLANES."""
    private_unit_model.transform.networks = False
    return private_unit_model


def error(codec, data, pixels):
    return float(np.square(np.asarray(codec.decode(data), float) - pixels).mean() ** 0.5)


def two_colours(angle_deg, side=256):
    """Pixels whose colours lie on a plane through gray, ``angle_deg`` from the first axis."""
    brightness, colour = (photo_like(side, side, seed)[0, 0].double() - 0.5 for seed in (1, 2))
    angle = np.radians(angle_deg)
    axis = np.cos(angle) * PLANES[1] + np.sin(angle) * PLANES[2]
    x = 0.5 + brightness[..., None].numpy() * PLANES[0] + 0.6 * colour[..., None].numpy() * axis
    return (x.clip(0, 1) * 255).round().astype(np.uint8)


def smooth(height, width):
    """Pixels of strong colours that hardly lose anything."""
    few = torch.rand(1, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    x = F.interpolate(few, size=(height, width), mode="bilinear")[0].permute(1, 2, 0).numpy()
    return (x * 255).round().astype(np.uint8)


@pytest.mark.parametrize("angles", [(0.4, 0, 0), (0, -0.3, 0), (0.5, 0.2, -1.0), (0, 0, 0)])
def test_matrix_is_the_rotation_about_the_axes(angles):
    expected = Reference.from_rotvec(np.array(angles) @ PLANES).as_matrix()
    np.testing.assert_allclose(matrix(np.array(angles)), expected, atol=1e-12)


def test_gray_stays_gray_where_only_hues_turn():
    gray = torch.rand(1, 1, 5, 7).expand(1, 3, 5, 7)
    assert torch.allclose(Rotation(77).rotate(gray), gray, atol=1e-6)
    assert not torch.allclose(Rotation(0, 20).rotate(gray), gray, atol=1e-2)


def test_turned_back_is_what_it_was_and_lengths_stay():
    x = photo_like(32, 48)
    turned = SOME.rotate(x)
    assert not torch.allclose(turned, x, atol=1e-2)
    assert torch.allclose(SOME.rotate_back(turned), x, atol=1e-5)
    assert float((turned - 0.5).norm()) == pytest.approx(float((x - 0.5).norm()), rel=1e-5)
    assert IDENTITY.rotate(x) is x


@pytest.mark.parametrize("rotation", [SOME, Rotation(-LARGEST, LARGEST, 0), Rotation(0, 0, 1)])
def test_reads_back_as_written(rotation):
    assert Rotation.from_bytes(rotation.to_bytes()) == rotation


@pytest.mark.parametrize("data", [b"", b"\1\2", b"\1\2\3\4", bytes(3), b"\x80\0\0"])
def test_damage_is_named(data):
    with pytest.raises(CorruptStream, match="rotation is not as"):
        Rotation.from_bytes(data)


def test_nearest_keeps_within_what_a_file_can_hold():
    angles = np.radians([10.2, -0.3, 500])
    assert Rotation.nearest(angles) == (20, -1, LARGEST)
    assert STEP_DEG * LARGEST > 60


@pytest.mark.weights
@pytest.mark.parametrize("options", [{}, {"tile": 4}, {"effort": 9}])
def test_decoder_rotates_back_what_the_encoder_rotated(codec, brief_refinement, options):
    pixels = smooth(128, 144)
    picture = read_image(Image.fromarray(pixels))
    plain, turned = (
        codec.encode(picture, 90, rotation=rotation, **{"effort": 1, **options})
        for rotation in (IDENTITY, SOME)
    )
    assert "rotation" not in fields.read(plain).chunks
    assert error(codec, turned, pixels) == pytest.approx(error(codec, plain, pixels), rel=0.2)
    file = fields.read(turned)
    without = fields.write(dataclasses.replace(file, chunks={}))
    assert error(codec, without, pixels) > 2 * error(codec, turned, pixels)


@pytest.mark.weights
def test_filter_is_fitted_after_rotating_back(codec):
    pixels = photo_pixels(192, 256)
    plain, filtered = (
        codec.encode(Image.fromarray(pixels), 90, rotation=SOME, effort=effort) for effort in (1, 2)
    )
    assert "filter" in fields.read(filtered).chunks
    assert error(codec, filtered, pixels) < error(codec, plain, pixels)


@pytest.mark.weights
def test_damaged_rotation_in_a_sound_file_is_named(codec):
    file = fields.read(codec.encode(Image.fromarray(photo_pixels(64, 64)), 50))
    forged = fields.write(dataclasses.replace(file, chunks={"rotation": bytes(3)}))
    for act in (codec.decode, codec.verify):
        with pytest.raises(CorruptStream, match="rotation is not as"):
            act(forged)


@pytest.mark.parametrize("angle_deg", [20, -25])
def test_colours_are_rotated_onto_the_axes(linear, angle_deg):
    pixels = two_colours(angle_deg)
    found = find_rotation(linear, pixels, 75)
    assert STEP_DEG * found.gray == pytest.approx(-angle_deg, abs=3)
    assert max(abs(found.first), abs(found.second)) * STEP_DEG < 3


@pytest.mark.weights
def test_rotated_colours_cost_less(codec):
    pixels = two_colours(30)
    picture = read_image(Image.fromarray(pixels))
    weight = codec.model.config.error_weight(75) * pixels.size / 255**2

    def cost(data):
        return 8 * len(data) + weight * error(codec, data, pixels) ** 2

    plain, rotated = codec.encode(picture, 75, rotation=IDENTITY), codec.encode(picture, 75)
    assert cost(rotated) < 0.98 * cost(plain)


def test_colours_on_the_axes_stay(linear):
    found = find_rotation(linear, two_colours(0), 75)
    assert max(map(abs, found)) <= 2


@pytest.mark.weights
def test_gray_pictures_have_none(codec):
    data = codec.encode(Image.fromarray(photo_pixels(64, 64)).convert("L"), 50)
    assert "rotation" not in fields.read(data).chunks


def test_transforms_without_a_wavelet_have_none():
    vss = VSSConfig(d_state=2)
    conv = dataclasses.replace(PRESETS["unit"], transform="conv", N=8, depths=(1, 1, 1, 1), vss=vss)
    assert find_rotation(make_model(conv), two_colours(30, 64), 75) == IDENTITY
