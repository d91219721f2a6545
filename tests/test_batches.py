"""Many pictures at once: the same bytes and pixels as one after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import photo_pixels
from PIL import Image

from mambaic.checkpoint import load_model
from mambaic.codec import Codec
from mambaic.entropy_model.walk import EntropyModel
from mambaic.errors import CorruptStream, DesyncError
from mambaic.tiling import batches as batching

SIZES = [(64, 48), (90, 33), (64, 48), (60, 47), (130, 70)]


def photo(width, height, seed=0):
    return Image.fromarray(photo_pixels(height, width, seed))


@pytest.fixture(scope="module")
def codec(unit_model):
    return Codec(unit_model)


@pytest.fixture
def walks(monkeypatch):
    """Tiles of every walk, as they come."""
    counts = []
    original = EntropyModel._walk_in_fixed_point

    def walk(self, coder, batch, *others):
        counts.append(batch)
        return original(self, coder, batch, *others)

    monkeypatch.setattr(EntropyModel, "_walk_in_fixed_point", walk)
    return counts


def pictures():
    images = [photo(*size, seed) for seed, size in enumerate(SIZES)]
    images[2] = images[2].convert("L")
    with_alpha = np.full((47, 60), 255, np.uint8)
    with_alpha[:9] = 0
    images[3].putalpha(Image.fromarray(with_alpha))
    return images


@pytest.mark.parametrize("quality", [40.0, 98.0])  # 98: finest colours, beyond trained qualities
def test_a_batch_has_the_bytes_and_pixels_of_its_pictures_alone(codec, walks, quality):
    images = pictures()
    alone = [codec.encode(image, quality) for image in images]
    decoded = [codec.decode(data).tobytes() for data in alone]
    walks.clear()
    assert codec.encode_batch(images, quality) == alone
    assert sorted(walks) == [1, 1, 3]
    walks.clear()
    together = codec.decode_batch([*alone[::-1], alone[0]])
    assert sorted(walks) == [1, 1, 4]
    assert [image.tobytes() for image in together] == [*decoded[::-1], decoded[0]]


def test_tiles_of_a_picture_are_a_batch(codec, walks):
    image = photo(250, 130, 3)
    data = codec.encode(image, 50, tile=4)
    walks.clear()
    assert codec.encode_batch([image], 50, tile=4) == [data]
    assert max(walks) > 1
    assert codec.decode_batch([data])[0].tobytes() == codec.decode(data).tobytes()


def test_files_of_different_quality_and_taste_come_back_in_order(eye_checkpoint):
    codec = Codec(load_model(eye_checkpoint, torch.device("cpu")))
    settings = [{"quality": 30}, {"quality": 30, "tune": 1.0}, {"quality": 80}, {"quality": 30}]
    files = [codec.encode(photo(64, 64, seed), **own) for seed, own in enumerate(settings)]
    expected = [codec.decode(data).tobytes() for data in files]
    assert [image.tobytes() for image in codec.decode_batch(files)] == expected


def test_no_walk_takes_more_latents_than_there_is_room_for(codec, walks, monkeypatch):
    monkeypatch.setattr(batching, "LATENTS", 50)
    images = [photo(64, 48, seed) for seed in range(5)]  # tiles of 16 latents
    files = codec.encode_batch(images, 40)
    assert walks == [3, 2]
    assert files == [codec.encode(image, 40) for image in images]


def test_a_damaged_file_of_a_batch_says_what_it_says_alone(codec):
    files = codec.encode_batch([photo(64, 48, seed) for seed in range(3)], 60)
    files[1] = files[1][:-1] + bytes([files[1][-1] ^ 1])
    with pytest.raises(CorruptStream) as alone:
        codec.decode(files[1])
    with pytest.raises(CorruptStream) as in_batch:
        codec.decode_batch(files)
    assert str(in_batch.value) == str(alone.value)


def test_symbols_of_other_numerics_in_a_batch_are_an_error(codec, unit_model):
    y = torch.randn(2, unit_model.config.M, 4, 4, generator=torch.Generator().manual_seed(0)) * 4
    model = unit_model.entropy_model
    payloads = [stream.payload for stream in model.encode_batch(y, 50.0)]
    with pytest.raises(DesyncError):
        model.decode_batch([payloads[0], payloads[1][2:] + payloads[1][:2]], (4, 4), 50.0)


def test_no_pictures(codec):
    assert codec.encode_batch([]) == []
    assert codec.decode_batch([]) == []
