"""Members of shards in WebDataset and in torch's ``DataLoader``."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import photo_pixels
from PIL import Image
from torch.utils.data import DataLoader

from mambaic.codec import load
from mambaic.errors import TruncatedStream
from mambaic.integrations.webdataset import MbicDecoder

UNIT = str(Path(__file__).parents[1] / "golden" / "v6" / "unit")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    photo = Image.fromarray(photo_pixels(24, 40))
    images = {"RGB": photo, "L": photo.convert("L"), "LA": photo.convert("LA")}
    images["LA"].putalpha(photo.getchannel("R"))
    codec = load(UNIT, "cpu")
    return {mode: codec.encode(image, effort=1) for mode, image in images.items()}


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1), ("LA", 2)])
def test_kinds_hold_the_same_pixels(files, mode, channels):
    image, array, tensor = (
        MbicDecoder(kind, UNIT).decode(files[mode]) for kind in ("pil", "numpy", "torch")
    )
    assert image.mode == mode
    assert np.array_equal(np.array(image), array)
    assert tensor.shape == (channels, 24, 40)
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), array.reshape(24, 40, channels))
    assert tensor.dtype == torch.uint8


def test_other_members_are_left_to_other_handlers(files):
    decoder = MbicDecoder(model=UNIT)
    assert decoder(".txt", b"a caption") is None
    assert decoder(".left.mbic", files["RGB"]).size == (40, 24)
    with pytest.raises(TruncatedStream):
        decoder("mbic", files["RGB"][:-9])


def test_a_loader_collates_them(files):
    decoder = pickle.loads(pickle.dumps(MbicDecoder("torch", UNIT)))
    loader = DataLoader(
        [files["RGB"]] * 3, 2, collate_fn=lambda rows: list(map(decoder.decode, rows))
    )
    assert [torch.stack(batch).shape[0] for batch in loader] == [2, 1]


@pytest.mark.filterwarnings("ignore")
def test_a_shard_of_webdataset(files, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, data in {"1.mbic": files["RGB"], "1.txt": b"a caption"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    dataset = webdataset.WebDataset(str(tmp_path / "x.tar"), shardshuffle=False)
    (sample,) = dataset.decode(MbicDecoder("torch", UNIT))
    assert sample["mbic"].shape == (3, 24, 40)
    assert sample["txt"] == "a caption"
