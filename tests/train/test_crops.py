"""Crops: what numpy's slices give, on every device, and all that a device is told of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import photo_pixels
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mambaic_train.batches import Batches
from mambaic_train.crops import HeldPhotos, Photo, cut, to_input
from mambaic_train.data import Mixture, PhotoSet


def photo(height, width, seed=0):
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return Photo(photo_pixels(height, width, seed), rotation.astype(np.float32))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    for index in range(4):
        Image.fromarray(photo_pixels(96 + 8 * index, 72, index)).save(folder / f"{index}.png")
    photos = Mixture(*(PhotoSet([folder], min_side=64) for _ in range(2)), share=0.4)
    matrices = iter(range(8))
    photos.rotate(lambda pixels: photo(1, 1, next(matrices)).rotation)
    return photos


def sliced(pixels, size, numbers):
    """By slices of a padded picture."""
    missing = [(0, max(0, size - side)) for side in pixels.shape[:2]]
    pixels = np.pad(pixels, [*missing, (0, 0)], mode="symmetric")
    height, width = pixels.shape[:2]
    top, left = int(numbers[0] * (height - size + 1)), int(numbers[1] * (width - size + 1))
    crop = pixels[top : top + size, left : left + size]
    crop = crop[:, ::-1] if numbers[2] < 0.5 else crop
    return crop.transpose(1, 0, 2) if numbers[3] < 0.5 else crop


@pytest.mark.parametrize("shape", [(64, 64), (70, 150), (200, 65), (29, 90), (11, 13)], ids=str)
def test_crops_are_slices_mirrored_and_transposed(shape):
    rng = np.random.default_rng(0)
    of = photo(*shape)
    samples = [(of, rng.random(5)) for _ in range(8)]
    crops = cut(samples, 64)
    for crop, (_, numbers) in zip(crops.pixels, samples, strict=True):
        assert np.array_equal(crop.permute(1, 2, 0), sliced(of.pixels, 64, numbers))
    assert torch.equal(crops.rotations[3], torch.from_numpy(of.rotation))


def test_photographs_that_a_device_holds_give_the_same_crops(data):
    """For a seed and a step, whole batches and shares."""
    host, device = Batches(data, 1, memory=0), Batches(data, 1, memory=data.bytes)
    for step in (0, 1, 7):
        for share in (slice(None), slice(2, 4)):
            expected, found = (of.get(step, 6, 64, share) for of in (host, device))
            assert torch.equal(found.pixels, expected.pixels)
            assert torch.equal(found.rotations, expected.rotations)
            assert torch.equal(to_input(found), to_input(expected))


class Sent(TorchDispatchMode):
    """Shapes of what goes from one kind of device to another."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        come, go = (
            {t.device.type for t in tree_leaves(tree) if isinstance(t, torch.Tensor)}
            for tree in ((args, kwargs), out)
        )
        if come == {"cpu"} and go == {"meta"}:
            self.shapes.append(tuple(out.shape))
        assert not (come == {"meta"} and go == {"cpu"})
        return out


@pytest.mark.parametrize("held", [True, False])
def test_a_device_that_holds_photographs_is_sent_places_alone(data, held):
    batches = Batches(data, 1, "meta", memory=data.bytes if held else data.bytes - 1)
    batches.get(0, 6, 64, slice(None))
    with Sent() as sent:
        x = to_input(batches.get(1, 6, 64, slice(None)), "meta")
    assert x.shape == (6, 3, 64, 64)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert sent.shapes == ([(6, 8)] if held else [(6, 3, 64, 64), (6, 3, 3)])


def test_a_set_that_is_streamed_is_not_held(tmp_path, data):
    from PIL import Image

    for index in range(4):
        Image.fromarray(photo_pixels(64, 64, index)).save(tmp_path / f"{index}.png")
    # one each: the thread of one that makes its next batch would move the window of the other
    streams = [PhotoSet([tmp_path], min_side=64, memory=20_000) for _ in range(2)]
    assert streams[0].streamed
    memories = (0, 10**9)
    expected, found = (
        Batches(stream, 1, memory=memory) for stream, memory in zip(streams, memories, strict=True)
    )
    one, other = (of.get(3, 4, 64, slice(None)) for of in (expected, found))
    assert torch.equal(one.pixels, other.pixels)


def test_pixels_of_many_photographs_lie_in_one_tensor(data):
    held = HeldPhotos(data.images, "cpu")
    numbers = np.zeros(5)
    numbers[2:4] = 0.9  # neither mirrored nor transposed
    for of in data.images:
        crops = held.cut(held.places([(of, numbers)], 64), 64)
        assert np.array_equal(crops.pixels[0].permute(1, 2, 0), of.pixels[:64, :64])
