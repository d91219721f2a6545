"""Levels of effort: each does at least what the one below does, and none other exists."""

from __future__ import annotations

from itertools import pairwise

import pytest
from conftest import photo_pixels

from mambaic.codec import Codec
from mambaic.container.fields import read
from mambaic.encoder.effort import DEFAULT_EFFORT, EFFORTS, UNREFINED
from mambaic.encoder.options import EncodeOptions
from mambaic.errors import ConfigError
from mambaic.imaging.image import Picture


def test_levels_are_1_to_9_and_each_does_as_much_as_the_one_below():
    assert list(EFFORTS) == list(range(1, 10))
    for less, more in pairwise(EFFORTS.values()):
        assert all(a <= b for a, b in zip(less, more, strict=True))
    assert not any(EFFORTS[1])
    assert all(EFFORTS[9])
    assert DEFAULT_EFFORT == UNREFINED == EncodeOptions().effort == 5


@pytest.mark.parametrize("effort", [0, 10, -1, 5.5, "5", None])
def test_other_efforts_are_refused(effort):
    with pytest.raises(ConfigError, match=r"effort = .* from 1 to 9"):
        EncodeOptions(effort=effort)


def test_refinement_changes_latents_alone(unit_model, brief_refinement):
    codec = Codec(unit_model)
    picture = Picture(pixels=photo_pixels(48, 64))
    default, refined = (read(codec.encode(picture, 70, effort=effort)) for effort in (5, 9))
    assert refined.tiles != default.tiles
    assert refined.chunks.get("rotation") == default.chunks.get("rotation")
