"""The law of quality."""

from __future__ import annotations

import numpy as np
import pytest

from mambaic.config import PRESETS, STRETCHED_FROM, ModelConfig
from mambaic.errors import ConfigError


@pytest.mark.parametrize("name", ["unit", "s", "b"])
def test_qualities_are_stretched_smoothly_and_only_where_said(name):
    config = PRESETS[name]
    qualities = np.arange(0, 100.01, 0.25)
    stretched = np.array([config.stretched(quality) for quality in qualities])
    usual = qualities <= STRETCHED_FROM
    assert np.array_equal(stretched[usual], qualities[usual])
    assert stretched[-1] == pytest.approx(config.highest)
    slopes = np.diff(stretched)
    assert (slopes > 0).all()
    assert np.abs(np.diff(slopes)).max() < 0.1  # of a slope of 0.25 or more


def test_paper_has_the_qualities_it_was_trained_with():
    assert PRESETS["paper"].stretched(100.0) == 100.0


def test_qualities_beyond_the_trained_ones_need_networks_for_them():
    with pytest.raises(ConfigError, match="fine_width"):
        ModelConfig(name="x", highest=120.0)
    with pytest.raises(ConfigError, match="highest"):
        ModelConfig(name="x", highest=90.0, fine_width=8)
