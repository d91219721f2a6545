"""The code of filters: every filter reads back, for the bits that rates promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mambaic import checkpoint
from mambaic.coding.binary_arithmetic import HALF, ONE, Reader, Writer
from mambaic.encoder.filter_rate import Costs, of_plane
from mambaic.errors import CorruptStream
from mambaic.reconstruction.filter_code import (
    FINENESSES,
    LAST,
    LONG,
    ZERO,
    CodedFilter,
    chances,
    from_bytes,
    rates,
    step,
    to_bytes,
)
from mambaic.reconstruction.filter_taps import TAPS
from mambaic_kernels.filter_maps.constants import FACTORS, MAPS
from mambaic_kernels.integer_least_squares import bits_of

RNG = np.random.default_rng(5)


def some_numbers(reach, fineness=7, planes=3):
    rows = (RNG.integers(-reach, reach + 1, len(taps)).tolist() for taps in TAPS[:planes])
    return CodedFilter(fineness, tuple(map(tuple, rows)))


@pytest.mark.parametrize("count", [0, 1, 30, 400])
def test_decisions_read_back_and_take_the_bytes_of_their_information(count):
    odds = [*RNG.integers(1, ONE, count).tolist(), HALF]
    taken = [bool(RNG.random() < 1 - chance / ONE) for chance in odds]
    writer = Writer()
    for chance, yes in zip(odds, taken, strict=True):
        assert writer.code(chance, yes) == yes
    data = writer.to_bytes()
    reader = Reader(data)
    assert [reader.code(chance) for chance in odds] == taken
    information = -sum(
        np.log2(1 - chance / ONE if yes else chance / ONE)
        for chance, yes in zip(odds, taken, strict=True)
    )
    assert information <= 8 * len(data) + 1e-6 or not any(taken)
    assert 8 * len(data) < information + 9


@pytest.mark.parametrize("reach", [0, 1, LONG - 1, LONG, LONG + 1, 5000])
@pytest.mark.parametrize("planes", [1, 3])
def test_filter_reads_back_as_written(reach, planes):
    written = some_numbers(reach, planes=planes)
    assert from_bytes(to_bytes(written), planes) == written


def test_every_fineness_reads_back():
    for fineness in range(FINENESSES):
        written = some_numbers(1, fineness, planes=1)
        assert from_bytes(to_bytes(written), planes=1) == written


def test_every_tap_has_probabilities_at_every_fineness():
    """None of them certain; the finer, the larger the numbers."""
    for tap in (tap for taps in TAPS for tap in taps):
        pairs = [chances(tap, fineness) for fineness in range(FINENESSES)]
        assert all(0 < chance < ONE for pair in pairs for chance in pair)
        assert step(tap, 2) == pytest.approx(step(tap, 0) / 2)
        assert 0 <= tap.map < len(MAPS)
        assert 0 <= tap.factor < len(FACTORS)
    for table in (ZERO, LAST):
        assert list(table) == sorted(table, reverse=True)


def test_no_tap_is_there_twice():
    for taps in TAPS:
        assert len({(tap.map, tap.plane, tap.factor) for tap in taps}) == len(taps)


def test_rates_are_those_of_files():
    coded = some_numbers(12)
    expected = 4.0
    for taps, numbers in zip(TAPS, coded.numbers, strict=True):
        for tap, number in zip(taps, numbers, strict=True):
            expected += bits_of(number, rates(*chances(tap, coded.fineness)))
    assert 8 * len(to_bytes(coded)) == pytest.approx(expected, abs=8)


def test_damaged_filter_is_refused():
    data = to_bytes(some_numbers(9))
    for more in (b"\0", b"\1"):
        with pytest.raises(CorruptStream, match="not as an encoder"):
            from_bytes(data + more, 3)
    with pytest.raises(CorruptStream, match="too long"):
        from_bytes(b"\xff" * 400, 3)


def test_search_moves_numbers_that_rounding_leaves_wrong():
    """No number of the found ones can be moved by one for less."""
    taps, fineness = TAPS[0], 8
    count = len(taps)
    steps = np.array([step(tap, fineness) for tap in taps])
    root, cross = RNG.normal(size=(count, count)), 300 * RNG.normal(size=count)
    gram = 1e2 * (root @ root.T / count + np.eye(count))
    costs = Costs(torch.from_numpy(gram / steps / steps[:, None]), torch.from_numpy(cross / steps))
    total, numbers = of_plane(costs, taps, fineness)
    short = [rates(*chances(tap, fineness)) for tap in taps]

    def cost(values):
        error = float(values @ gram @ values - 2 * cross @ values)
        return error + sum(bits_of(int(v), of) for of, v in zip(short, values, strict=True))

    best = np.array(numbers, dtype=float)
    assert total == pytest.approx(cost(best), rel=1e-6)
    assert any(numbers)
    for at in range(count):
        for by in (-1, 1):
            moved = best.copy()
            moved[at] += by
            assert cost(moved) >= total - 1e-6


def test_a_checkpoint_with_a_code_of_its_own_loads(unit_model, tmp_path, monkeypatch):
    """As they had one before it was part of the format."""
    tensors = checkpoint.model_tensors(unit_model, half=True)
    tensors["filter_code.planes.0.basis"] = torch.eye(3)
    monkeypatch.setattr(checkpoint, "model_tensors", lambda *_, **__: tensors)
    checkpoint.save_model(unit_model, tmp_path / "before")
    loaded = checkpoint.load_model(tmp_path / "before")
    assert loaded.state_dict().keys() == unit_model.state_dict().keys()
