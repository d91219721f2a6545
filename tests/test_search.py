"""The search for a target on curves made from formulas: where it ends, and in how many tries."""

from __future__ import annotations

import math

import pytest

from mambaic.errors import ConfigError
from mambaic.search import _search

CURVES = {
    "straight": lambda q: 6 + 0.031 * q,
    "steeper than expected": lambda q: 5 + 0.06 * q,
    "bent": lambda q: 8 + 3 * math.tanh((q - 70) / 15),
    "with steps": lambda q: 6 + 0.031 * math.floor(2 * q) / 2,
}


def search(curve, goal, tolerance=0.01):
    """(value found, qualities tried)"""
    tried = []

    def attempt(quality):
        tried.append(quality)
        return curve(quality), repr(curve(quality)).encode()

    found = _search(attempt, goal, tolerance, 0.031, "{:.3f} units".format)
    return float(found), tried


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.83, 0.999])
@pytest.mark.parametrize("name", CURVES)
def test_goal_is_met_in_few_tries(name, share):
    curve = CURVES[name]
    goal = curve(0) + share * (curve(100) - curve(0))
    value, tried = search(curve, goal)
    # a curve of steps has nothing nearer than half a step
    assert abs(value - goal) <= (0.0155 if name == "with steps" else 0.01)
    assert len(tried) == len(set(tried)) <= 11
    assert name != "straight" or len(tried) <= 3


@pytest.mark.parametrize(("goal", "end"), [(5.5, "quality 0"), (9.5, "quality 100")])
def test_a_goal_beyond_the_ends_is_refused_with_what_the_end_has(goal, end):
    with pytest.raises(ConfigError, match=rf"{end} this picture has .* units"):
        search(CURVES["straight"], goal)


def test_a_jump_over_the_goal_gives_the_nearer_side():
    value, tried = search(lambda q: 6.0 if q < 41.7 else 8.0, 6.5)
    assert value == 6.0
    assert len(tried) < 24
