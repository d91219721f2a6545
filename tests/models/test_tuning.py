"""Weights for the eye: what a file for the eye is coded with, and what it takes to decode one."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from conftest import photo_pixels
from PIL import Image

from mambaic.checkpoint import load_model, read_config, readable_ids, save_model
from mambaic.codec import Codec
from mambaic.container.fields import describe, read
from mambaic.errors import CheckpointError, ConfigError, WrongModel
from mambaic.models.tuning import tuned, tuned_parameters
from mambaic.reconstruction import filter_code

PHOTO = Image.fromarray(photo_pixels(96, 128))


@pytest.fixture
def model(eye_checkpoint):
    return load_model(eye_checkpoint)


@pytest.fixture
def plain(model):
    """The same model without weights for the eye."""
    plain = copy.deepcopy(model)
    plain.eye, plain.tune_id = {}, b""
    return plain


def pixels(codec, data):
    return np.asarray(codec.decode(data)).astype(int)


def test_weights_lie_between_both_tastes(model):
    ours, own = dict(model.named_parameters()), tuned_parameters(model)
    for tune in (0.25, 1.0):
        mixed = dict(tuned(model, tune).named_parameters())
        for name, value in mixed.items():
            expected = ours[name]
            if name in own:
                expected = (1 - tune) * ours[name].double() + tune * model.eye[name].double()
            assert torch.equal(value, expected.float()), name


def test_the_networks_of_the_walk_and_the_tables_serve_both_tastes(model):
    own = tuned_parameters(model)
    eye = tuned(model, 1.0)
    assert eye.entropy_model.tables is not None
    assert np.array_equal(
        eye.entropy_model.tables.frequencies, model.entropy_model.tables.frequencies
    )
    walk = [n for n, _ in model.entropy_model.named_parameters() if not n.startswith("h_a.")]
    shared = [name for name in walk if f"entropy_model.{name}" not in own]
    assert any(name.startswith("refine.") for name in shared)
    assert any(name.startswith("h_s.conv") for name in shared)


@pytest.mark.parametrize("tune", [0.25, 0.5, 1.0])
def test_file_of_a_tune_names_its_weights_and_comes_back(model, tune):
    codec = Codec(model)
    data = codec.encode(PHOTO, 60, tune=tune, effort=1)
    file = read(data)
    assert (file.tune, describe(data)["tune"]) == (tune, tune)
    assert file.weights_id == codec.weights_id(tune) != model.weights_id
    # by the weights of that tune alone, as a model of its own would
    alone = tuned(model, tune)
    alone.weights_id, alone.tune = model.weights_id, 0.0
    plain = Codec(alone).encode(PHOTO, 60, effort=1)
    assert read(plain).tiles == file.tiles
    assert np.array_equal(pixels(codec, data), pixels(Codec(alone), plain))


def test_files_for_psnr_are_what_they_were(model, plain):
    data = Codec(model).encode(PHOTO, 60, tune=0.0)
    assert data == Codec(plain).encode(PHOTO, 60)
    assert describe(data)["tune"] == 0


def test_the_eye_is_the_default_where_there_are_weights_for_it(model):
    codec = Codec(model)
    data = codec.encode(PHOTO, 60)
    assert data == codec.encode(PHOTO, 60, tune=1.0) == codec.encode_batch([PHOTO], 60)[0]
    assert describe(data)["tune"] == 1


def test_tune_is_kept_to_a_quarter(model):
    codec = Codec(model)
    assert codec.encode(PHOTO, 60, tune=0.1) == codec.encode(PHOTO, 60, tune=0.0)
    assert codec.encode(PHOTO, 60, tune=0.7) == codec.encode(PHOTO, 60, tune=0.75)


@pytest.mark.parametrize("tune", [-0.1, 1.5, float("nan")])
def test_tune_out_of_range_is_refused(model, tune):
    with pytest.raises(ConfigError, match="between 0"):
        Codec(model).encode(PHOTO, 60, tune=tune)


def test_without_weights_for_the_eye_nothing_is_coded_for_it(model, plain):
    with pytest.raises(ConfigError, match="--tune psnr"):
        Codec(plain).encode(PHOTO, 60, tune=1.0)
    data = Codec(model).encode(PHOTO, 60, tune=1.0)
    with pytest.raises(WrongModel, match="have none"):
        Codec(plain).decode(data)


def test_other_weights_for_the_eye_are_told_by_their_id(model, tmp_path):
    data = Codec(model).encode(PHOTO, 60, tune=1.0)
    before = Codec(model).encode(PHOTO, 60, tune=0.0)
    model.eye = {name: value * 1.01 for name, value in model.eye.items()}
    save_model(model, tmp_path / "other")
    other = Codec(load_model(tmp_path / "other"))
    assert np.array_equal(pixels(other, before), pixels(Codec(model), before))
    with pytest.raises(WrongModel):
        other.decode(data)


def test_they_have_a_shard_and_an_id_of_their_own(eye_checkpoint, model, tmp_path):
    description = read_config(eye_checkpoint)
    base = load_model(eye_checkpoint)
    base.eye = {}
    save_model(base, tmp_path / "base")
    assert read_config(tmp_path / "base")["weights_id"] == description["weights_id"]
    name = "weights-00001.safetensors"
    assert (tmp_path / "base" / name).read_bytes() == (eye_checkpoint / name).read_bytes()
    assert description["shards"][-1] == "tune-00001.safetensors"
    codec = Codec(model)
    assert {codec.weights_id(), codec.weights_id(1.0)} <= set(readable_ids(description))


def test_damaged_weights_for_the_eye_are_noticed(eye_checkpoint, tmp_path):
    copied = tmp_path / "damaged"
    copied.mkdir()
    for file in eye_checkpoint.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    shard = copied / "tune-00001.safetensors"
    data = bytearray(shard.read_bytes())
    data[-5] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(copied)


def test_brightness_is_filtered_for_psnr_alone(model):
    codec, photo = Codec(model), Image.fromarray(photo_pixels(256, 320))
    for tune, filtered in ((0.0, True), (1.0, False)):
        chunk = read(codec.encode(photo, 90, tune=tune)).chunks["filter"]
        assert any(filter_code.from_bytes(chunk, 3).numbers[0]) == filtered
        assert any(map(any, filter_code.from_bytes(chunk, 3).numbers))
