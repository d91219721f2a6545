"""The annex of the format lists the taps that the codec runs on."""

from __future__ import annotations

import re

from filter_annex import ANNEX, annex

from mambaic.reconstruction.filter_taps import TAPS


def test_annex_is_what_the_taps_make():
    assert ANNEX.read_text() == annex(), "run python scripts/filter_annex.py"


def test_annex_has_every_tap_once():
    sections = annex().split("## Taps of ")[1:]
    for section, taps in zip(sections, TAPS, strict=True):
        rows = re.findall(r"^\| (\d+) \| .* p\d ", section, flags=re.MULTILINE)
        assert [int(number) for number in rows] == list(range(len(taps)))
