"""The search for a target on curves made from formulas: where it ends, and in how many tries."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from mambaic.encoder.options import EncodeOptions
from mambaic.encoder.rate_control import FIRST_QUALITY, Target, _search, encode_to_target
from mambaic.errors import ConfigError
from mambaic.imaging.image import Picture

CURVES = {
    "straight": lambda q: 6 + 0.031 * q,
    "steeper than expected": lambda q: 5 + 0.06 * q,
    "bent": lambda q: 8 + 3 * math.tanh((q - 70) / 15),
    "with steps": lambda q: 6 + 0.031 * math.floor(2 * q) / 2,
}


def search(curve, goal):
    """(what is found, qualities tried)"""
    tried = []

    def attempt(quality):
        tried.append(quality)
        return curve(quality), b"%f" % quality

    found = _search(attempt, goal, 0.01, 0.031, FIRST_QUALITY)
    assert (found.value, found.data) == (curve(found.quality), b"%f" % found.quality)
    return found, tried


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.83, 0.999])
@pytest.mark.parametrize("name", CURVES)
def test_goal_is_met_in_few_tries(name, share):
    curve = CURVES[name]
    goal = curve(0) + share * (curve(100) - curve(0))
    found, tried = search(curve, goal)
    assert found.within_reach
    # a curve of steps has nothing nearer than half a step
    assert abs(found.value - goal) <= (0.0155 if name == "with steps" else 0.01)
    assert len(tried) == len(set(tried)) <= 11
    assert name != "straight" or len(tried) <= 3


@pytest.mark.parametrize(("goal", "end"), [(5.5, 0), (9.5, 100)])
def test_a_goal_beyond_the_ends_gives_the_end(goal, end):
    found, _ = search(CURVES["straight"], goal)
    assert found.quality == end
    assert not found.within_reach


def test_a_jump_over_the_goal_gives_the_nearer_side():
    found, tried = search(lambda q: 6.0 if q < 41.7 else 8.0, 6.5)
    assert found.value == 6.0
    assert found.within_reach
    assert len(tried) < 24


class CurveCodec:
    """Files of 60 to 4,000 bytes, 5 % less if refined; remembers what was tried."""

    def __init__(self):
        self.tried = []

    def encode_picture(self, picture, options, progress):
        refined = options.tools.refinement > 0
        self.tried.append((refined, options.quality))
        length = 60 * math.exp(0.042 * options.quality) * (0.95 if refined else 1.0)
        return SimpleNamespace(data=bytes(round(length)))


def target(size, effort=5):
    codec = CurveCodec()
    picture = Picture(pixels=np.zeros((64, 64, 3), np.uint8))
    options = EncodeOptions(effort=effort)
    return encode_to_target(codec, picture, Target("size", size), options), codec.tried


def test_refined_tries_begin_where_the_unrefined_search_ends():
    data, tried = target(1000, effort=9)
    assert len(data) == pytest.approx(1000, rel=0.01)
    unrefined = [quality for refined, quality in tried if not refined]
    ends = [quality for refined, quality in tried if refined]
    assert ends[0] == unrefined[-1]
    assert len(ends) <= 3


def test_a_target_that_only_refined_files_reach_is_met():
    with pytest.raises(ConfigError, match="at quality 0 this picture has 60 bytes"):
        target(57)
    assert len(target(57, effort=9)[0]) == 57


@pytest.mark.parametrize(("size", "end"), [(20, "quality 0"), (90000, "quality 100")])
def test_a_target_beyond_the_ends_is_refused_with_what_the_end_has(size, end):
    with pytest.raises(ConfigError, match=rf"{end} this picture has \d+ bytes"):
        target(size, effort=9)
