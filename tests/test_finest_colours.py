"""Files with the finest colours and stretched qualities."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from conftest import make_model, photo_pixels
from PIL import Image, ImageDraw

from mambaic import checkpoint
from mambaic.codec import Codec, load
from mambaic.config import PRESETS
from mambaic.container.fields import describe, read
from mambaic.entropy_model.colour_blocks import PACKED_COLOURS
from mambaic.errors import CheckpointError, WrongModel
from mambaic.models.model import MambaIC

PLAIN = dataclasses.replace(PRESETS["unit"], fine_width=0, highest=100.0)


@pytest.fixture(scope="module")
def codec(unit_model):
    return Codec(unit_model)


@pytest.fixture(scope="module")
def shipped():
    """The shipped weights, if they have networks for the finest colours."""
    return load("s", device="cpu")


@pytest.fixture
def linear(private_unit_model):
    """Without transform networks: those of a random model leave errors that no latent undoes."""
    private_unit_model.transform.networks = False
    return Codec(private_unit_model)


def confetti(model, side=64):
    """Gray but for the finest colours, all of them: what the other channels never show."""
    packed = torch.randn(
        1, PACKED_COLOURS, side // 16, side // 16, generator=torch.Generator().manual_seed(0)
    )
    drawn = model.transform.reconstruct_colours(packed, 50.0)[0].permute(1, 2, 0).numpy()
    pixels = 128 + 35 * drawn / drawn.std()
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def psnr_db(a, b):
    error = np.asarray(a).astype(float) - np.asarray(b).astype(float)
    with np.errstate(divide="ignore"):  # flat colours and text come back exactly
        return 10 * np.log10(255**2 / np.mean(error**2))


def test_finest_colours_come_back(linear):
    image = confetti(linear.model)
    data = linear.encode(image, 100)
    assert describe(data)["tiles_with_finest_colours"] == 1
    before = Codec(without_networks(linear.model))
    before.model.transform.networks = False
    gained = psnr_db(image, linear.decode(data)) - psnr_db(
        image, before.decode(before.encode(image, 100))
    )
    assert gained > 8  # random networks leave some of them out


def without_networks(model):
    """The same weights without what came later."""
    plain = MambaIC(PLAIN)
    kept = {name: t for name, t in model.state_dict().items() if ".fine." not in name}
    plain.load_state_dict(kept)
    plain.entropy_model.tables = model.entropy_model.tables
    plain.weights_id = model.weights_id
    return plain.eval().requires_grad_(False)


def test_files_that_need_none_of_it_are_what_they_were(codec):
    image = Image.fromarray(photo_pixels(80, 70)).convert("L")
    before = Codec(without_networks(codec.model))
    for quality in (0, 40, 85):
        data = codec.encode(image, quality)
        assert data == before.encode(image, quality)
        assert not read(data).fine


def test_tiles_with_and_without_finest_colours_meet_in_a_picture(codec):
    pixels = photo_pixels(64, 256) // 8 + 100
    pixels = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    pixels[:, 128:192] = np.asarray(confetti(codec.model))
    data = codec.encode(Image.fromarray(pixels), 85, tile=4)
    assert list(read(data).coloured)[2]
    assert not all(read(data).coloured)
    decoded = np.asarray(codec.decode(data))
    without = np.asarray(codec.decode(codec.encode(Image.fromarray(pixels), 20, tile=4)))
    coloured = slice(None), slice(132, 188)
    assert psnr_db(pixels[coloured], decoded[coloured]) > 5 + psnr_db(
        pixels[coloured], without[coloured]
    )


def test_older_files_above_85_keep_their_quality(codec):
    """Made before qualities were stretched: their header does not say so."""
    image = Image.fromarray(photo_pixels(64, 64))
    before = Codec(without_networks(codec.model))
    data = before.encode(image, 100)
    assert not read(data).fine
    assert np.array_equal(np.asarray(codec.decode(data)), np.asarray(before.decode(data)))


def test_files_name_the_networks_that_they_need(tmp_path):
    model = make_model(PRESETS["unit"])
    checkpoint.save_model(model, tmp_path / "whole")
    checkpoint.save_model(without_networks(model), tmp_path / "plain")
    whole, plain = (Codec(checkpoint.load_model(tmp_path / name)) for name in ("whole", "plain"))
    assert whole.model.weights_id == plain.model.weights_id
    gray, colourful = Image.fromarray(photo_pixels(64, 64)).convert("L"), confetti(model)
    assert plain.encode(gray, 50) == whole.encode(gray, 50)
    data = whole.encode(colourful, 95)
    with pytest.raises(WrongModel):
        plain.decode(data)
    described = checkpoint.read_config(tmp_path / "whole")
    assert read(data).weights_id in checkpoint.readable_ids(described)
    assert read(data).weights_id not in checkpoint.readable_ids(
        checkpoint.read_config(tmp_path / "plain")
    )


def test_networks_that_are_not_the_named_ones_are_refused(tmp_path):
    model = make_model(PRESETS["unit"])
    checkpoint.save_model(model, tmp_path / "one")
    with torch.no_grad():
        model.entropy_model.fine.scales.offsets += 1
    checkpoint.save_model(model, tmp_path / "other")
    (shard,) = (tmp_path / "other").glob("fine-*.safetensors")
    shard.replace(tmp_path / "one" / shard.name)
    with pytest.raises(CheckpointError, match="fine damaged"):
        checkpoint.load_model(tmp_path / "one")


def checkerboard():
    return np.repeat(np.indices((128, 128)).sum(axis=0)[..., None] % 2 * 255, 3, axis=2)


def colour_bars():
    colours = [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255]]
    return np.repeat(np.array([colours]), 20, axis=1).repeat(96, axis=0)


def page_of_text():
    image = Image.new("RGB", (192, 128), "white")
    draw = ImageDraw.Draw(image)
    for line in range(9):
        draw.text((4, 14 * line), "Finest colours, 0123456789", fill=(20 * line, 0, 120))
    return np.asarray(image)


@pytest.mark.weights
@pytest.mark.parametrize(
    ("picture", "decibels"), [(checkerboard, 25), (colour_bars, 45), (page_of_text, 35)]
)
def test_pictures_that_are_no_photographs_look_right(shipped, picture, decibels):
    pixels = picture().astype(np.uint8)
    decoded = shipped.decode(shipped.encode(Image.fromarray(pixels), 90))
    assert psnr_db(pixels, decoded) > decibels


@pytest.mark.weights
@pytest.mark.slow
def test_better_qualities_are_better_without_a_step(shipped):
    """Of a colourful picture, where stretching begins and where the networks' knowledge ends."""
    image = Image.fromarray(photo_pixels(128, 128)[..., ::-1] ^ 64)
    decibels, sizes = [], []
    for quality in range(82, 101, 3):
        data = shipped.encode(image, quality)
        decibels.append(psnr_db(image, shipped.decode(data)))
        sizes.append(len(data))
    assert (np.diff(decibels) > 0).all()
    assert (np.diff(sizes) > 0).all()
    assert np.diff(decibels).max() < 3
