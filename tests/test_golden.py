"""Files that must decode for ever, to the pixels they decoded to when they were made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mambaic.checkpoint import load_model, read_config, readable_ids, shipped
from mambaic.codec import Codec, load_for
from mambaic.container.fields import CHUNKS, describe
from mambaic.errors import WrongModel

FOLDER = Path(__file__).parent / "golden" / "v6"
OURS = sorted(path for path in FOLDER.glob("*.mbic") if not path.name.startswith("s-"))
SHIPPED = sorted(FOLDER.glob("s-*.mbic"))


@pytest.fixture(scope="module")
def codecs():
    """Those of the golden files, by the id of their weights."""
    codec = Codec(load_model(FOLDER / "unit"))
    return {known.hex(): codec for known in readable_ids(read_config(FOLDER / "unit"))}


def check(image, expected_path):
    with Image.open(expected_path) as expected:
        assert image.mode == expected.mode
        assert image.size == expected.size
        difference = np.asarray(image).astype(int) - np.asarray(expected).astype(int)
        assert np.abs(difference).max() <= 1
        assert image.info.get("icc_profile") == expected.info.get("icc_profile")


def test_there_are_golden_files_of_every_feature():
    descriptions = [describe(path.read_bytes()) for path in OURS]
    assert {d["mode"] for d in descriptions} == {"L", "LA", "RGB", "RGBA"}
    assert any(d["tiles"] > 1 for d in descriptions)
    assert {name for d in descriptions for name in d["chunks"]} == set(CHUNKS)
    assert any(d["tune"] for d in descriptions)
    assert {bool(d["colour_lag"]) for d in descriptions if d["tiles_with_finest_colours"]} == {
        False,
        True,
    }


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_golden_file_decodes(codecs, path):
    data = path.read_bytes()
    image = codecs[describe(data)["weights_id"]].decode(data)
    check(image, path.with_suffix(".png"))
    if path.stem == "metadata":
        assert image.info["xmp"] == b"<x:xmpmeta/>"
        assert image.getexif()[0x010F] == "maker"


@pytest.mark.weights
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_file_of_shipped_weights_decodes_or_names_them(path):
    """Weights that are no longer shipped are refused by their id."""
    data = path.read_bytes()
    made_by = describe(data)["weights_id"]
    known = [one.hex() for name in shipped() for one in readable_ids(read_config(name))]
    if made_by in known:
        check(load_for(data).decode(data), path.with_suffix(".png"))
    else:
        with pytest.raises(WrongModel, match=made_by):
            load_for(data)
