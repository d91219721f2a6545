"""Filters in files: decisions are written exactly, numbers read back, damage is named."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import photo_pixels

from mambaic import checkpoint
from mambaic.coding.binary_arithmetic import BITS, ONE, Reader, Writer
from mambaic.encoder.filter_rate import Costs, cheapest, of_plane
from mambaic.errors import CheckpointError, CorruptStream
from mambaic.reconstruction.filter_code import LONG, STEPS, CodedFilter, FilterCode, rate
from mambaic.reconstruction.filter_taps import TAPS, count
from mambaic_train.filter_code import fit_filter_code, observe

RNG = np.random.default_rng(5)


def some_numbers(reach: int, fineness: int = 3, planes: int = 3) -> CodedFilter:
    reconstruction = (RNG.integers(-reach, reach + 1, count(own)).tolist() for own in range(planes))
    return CodedFilter(fineness, tuple(map(tuple, reconstruction)))


@pytest.mark.parametrize("length", [0, 1, 7, 300])
def test_decisions_read_back_and_take_their_information(length):
    chances = [int(p) for p in RNG.integers(1, ONE, length)]
    taken = [bool(RNG.random() > p / ONE) for p in chances]
    writer = Writer()
    for chance, yes in zip(chances, taken, strict=True):
        writer.code(chance, yes)
    data = writer.to_bytes()
    reader = Reader(data)
    assert [reader.code(chance) for chance in chances] == taken
    information = sum(
        BITS - math.log2(ONE - chance if yes else chance)
        for chance, yes in zip(chances, taken, strict=True)
    )
    assert information <= 8 * len(data) + 1e-6 or not any(taken)
    assert 8 * len(data) < information + 9


@pytest.mark.parametrize("reach", [0, 1, LONG - 1, LONG, LONG + 1, 5000])
@pytest.mark.parametrize("planes", [1, 3])
def test_filter_reads_back_as_written(reach, planes):
    code = FilterCode()
    written = some_numbers(reach, planes=planes)
    assert code.from_bytes(code.to_bytes(written), planes) == written


def test_every_fineness_reads_back():
    code = FilterCode()
    for fineness in range(len(STEPS)):
        written = some_numbers(1, fineness, planes=1)
        assert code.from_bytes(code.to_bytes(written), planes=1) == written


def test_rates_are_those_of_files():
    code = FilterCode()
    zero, last = ONE // 5, ONE // 3
    for plane in code.planes:
        plane.zero.fill_(zero)
        plane.last.fill_(last)
    bits = rate(zero, last)
    numbers = some_numbers(12)
    expected = 4 + sum(bits(abs(number)) for row in numbers.numbers for number in row)
    assert 8 * len(code.to_bytes(numbers)) == pytest.approx(expected, abs=8)


def test_damaged_filter_is_refused():
    code = FilterCode()
    data = code.to_bytes(some_numbers(9))
    with pytest.raises(CorruptStream, match="not as an encoder"):
        code.from_bytes(data + b"\0", 3)
    with pytest.raises(CorruptStream, match="not as an encoder"):
        code.from_bytes(data + b"\1", 3)
    with pytest.raises(CorruptStream, match="too long"):
        code.from_bytes(b"\xff" * 400, 3)


def test_search_moves_numbers_that_rounding_leaves_wrong():
    """No number of the found ones can be moved by one for less."""
    code = FilterCode()
    taps = count(0)
    root, cross = (torch.from_numpy(RNG.normal(size=size)) for size in ((taps, taps), taps))
    costs = Costs(1e4 * (root @ root.T / taps + torch.eye(taps)), 300 * cross)
    total, numbers = of_plane(costs, code, 0, 8)
    bits = rate(ONE - ONE // 8, ONE // 4)
    directions = code.directions(0, 8)

    def cost(values):
        c = directions @ torch.from_numpy(values)
        error = float(c @ costs.gram @ c - 2 * costs.cross @ c)
        return error + sum(bits(abs(int(v))) for v in values)

    best = np.array(numbers, dtype=float)
    assert total == pytest.approx(cost(best), rel=1e-6)
    assert any(numbers)
    for at in range(taps):
        for step in (-1, 1):
            moved = best.copy()
            moved[at] += step
            assert cost(moved) >= total - 1e-6


def test_learned_code_makes_filters_cheaper(private_unit_model):
    model = private_unit_model
    code = model.filter_code
    pictures = [(photo_pixels(128, 192, seed), 90.0) for seed in range(6)]
    observed = [observe(model, *picture)[0] for picture in pictures]

    def paid(costs):
        """Bits of a picture's filter, less what it gains."""
        if (coded := cheapest(costs, code)) is None:
            return 0
        total = 8 * len(code.to_bytes(coded))
        for (gram, cross), c in zip(costs, code.coefficients(coded), strict=True):
            total += c @ gram @ c - 2 * cross @ c
        return total

    before = sum(map(paid, observed))
    fit_filter_code(model, pictures)
    assert sum(map(paid, observed)) < before
    for own in range(len(TAPS)):
        plane = code.plane(own)
        assert torch.equal(plane.basis, plane.basis.half().float())  # as it is stored
        for chances in (plane.zero, plane.last):
            assert chances.min() > 0
            assert chances.max() < ONE


def test_checkpoint_whose_decisions_are_certain_is_refused(private_unit_model, tmp_path):
    private_unit_model.filter_code.plane(1).zero[3, 5] = ONE
    checkpoint.save_model(private_unit_model, tmp_path / "certain")
    with pytest.raises(CheckpointError, match="filter code"):
        checkpoint.load_model(tmp_path / "certain")
