"""Integer tables: they sum up, they follow the mixture, and they are what the format says."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from mambaic.coding.tables import (
    CONTEXTS,
    LOG_MIN,
    LOG_STEP,
    PRECISION,
    RANGES,
    ROUNDED,
    SCALE_COUNT,
    SKIP_SCALE,
    SPACING,
    TCQ,
    build_tables,
    count_magnitudes,
    is_odd,
    scale_position,
    values,
    values_in,
)
from mambaic_kernels.mixture.reference import mixture_mass

# a class of states of each quantiser, and a range
EVEN, ODD = TCQ, TCQ + 3 * RANGES + 1


@pytest.fixture(scope="module")
def tables():
    return build_tables(0.85, 2.2)


def test_every_table_sums_to_the_precision_with_no_zero(tables):
    for context in range(CONTEXTS):
        for index in range(SCALE_COUNT):
            table = tables.table(context, index)
            assert table.sum() == 1 << PRECISION
            assert table.min() >= 1
            assert len(table) == 2 * tables.radius[context * SCALE_COUNT + index] + 2


def test_tables_cost_little_more_than_the_exact_mixture(tables):
    for context, index in itertools.product((ROUNDED, EVEN), range(tables.skip, SCALE_COUNT, 7)):
        spacing = SPACING if context == EVEN else 1.0
        scale = torch.tensor(math.exp(LOG_MIN + index * LOG_STEP) / spacing, dtype=torch.float64)
        coded = tables.table(context, index)[:-1] / (1 << PRECISION)
        radius = len(coded) // 2
        magnitudes = torch.arange(-radius, radius + 1, dtype=torch.float64)
        weight, ratio = torch.tensor(0.85).double(), torch.tensor(2.2).double()
        exact = mixture_mass(magnitudes, scale, weight, ratio).numpy()
        excess = float(np.sum(exact * np.log2(exact / coded)))
        assert excess < 0.02 * float(-np.sum(exact * np.log2(exact)))


def test_tables_under_the_skip_scale_are_skipped(tables):
    scales = np.exp(LOG_MIN + np.arange(SCALE_COUNT) * LOG_STEP)
    assert tables.skip == int(np.sum(scales < SKIP_SCALE))


def test_counted_symbols_move_the_tables(tables):
    """Two-sided geometric symbols, which no mixture of two Gaussians fits, at one index."""
    generator = torch.Generator().manual_seed(0)
    log_scale = torch.zeros(200_000)
    magnitude = torch.empty(200_000).exponential_(0.9, generator=generator).floor()
    sign = torch.randint(0, 2, magnitude.shape, generator=generator) * 2 - 1
    symbols, index = magnitude * sign, int(scale_position(torch.tensor(0.0)))
    context = torch.full(symbols.shape, ODD)
    counts = count_magnitudes(symbols[::2], log_scale[::2], context[::2])
    assert counts.sum() == 100_000
    assert counts[ODD, index].sum() == 100_000
    fitted = build_tables(0.85, 2.2, counts)
    before, after = (
        -torch.log2(
            t.likelihood(symbols[1::2], scale_position(log_scale[1::2]).long(), context[1::2])
        ).mean()
        for t in (tables, fitted)
    )
    entropy = -torch.log2(_geometric_mass(symbols[1::2])).mean()
    assert after < before - 0.05
    assert after < 1.002 * entropy
    unchanged = []
    for other in itertools.product(range(CONTEXTS), range(SCALE_COUNT)):
        table = fitted.table(*other)
        assert table.sum() == 1 << PRECISION
        assert table.min() >= 1
        unchanged += [other] if np.array_equal(table, tables.table(*other)) else []
    # what one class or range of a quantiser tells, the others are told
    odd = {(context, index) for context in range(CONTEXTS) if is_odd(context)}
    assert len(odd) == CONTEXTS // 2
    assert odd.isdisjoint(unchanged)
    assert len(unchanged) == CONTEXTS * SCALE_COUNT - len(odd)


def test_prices_are_those_of_the_tables_and_of_their_escapes(tables):
    symbols = torch.tensor([0, 1, 3, 250])
    index, context = torch.tensor([20, 20, 30, 30]), torch.tensor([ROUNDED, ODD, EVEN, EVEN])
    bits = -torch.log2(tables.likelihood(symbols, index, context)).numpy()
    assert tables.rates[context, index, symbols] == pytest.approx(bits, rel=1e-6)
    assert tables.radius[EVEN * SCALE_COUNT + 30] < 250


def _geometric_mass(symbols):
    mass = (1 - math.exp(-0.9)) * torch.exp(-0.9 * symbols.abs().double())
    return torch.where(symbols == 0, mass, mass / 2)


def test_level_position_is_centred_on_the_table_scales():
    scales = LOG_MIN + torch.arange(SCALE_COUNT).double() * LOG_STEP
    assert torch.allclose(scale_position(scales) % 1, torch.tensor(0.5).double(), atol=1e-9)
    assert scale_position(torch.tensor(-50.0)) == 0
    assert scale_position(torch.tensor(50.0)).floor() == SCALE_COUNT - 1


def test_mixture_mass_sums_to_one_and_has_finite_gradients():
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    weight, ratio = torch.tensor(0.7).double(), torch.tensor(2.0).double()
    values = torch.arange(-200, 201, dtype=torch.float64)
    mass = mixture_mass(values, scale, weight, ratio)
    assert mass.sum().item() == pytest.approx(1.0, abs=1e-12)
    torch.log(mass.clamp(min=1e-9)).sum().backward()
    assert math.isfinite(scale.grad.item())


def test_values_of_arrays_are_those_of_tensors():
    symbols = np.tile(np.arange(-5, 6, dtype=np.int32), CONTEXTS)
    contexts = np.repeat(np.arange(CONTEXTS), 11)
    expected = values(torch.from_numpy(symbols).float(), torch.from_numpy(contexts))
    assert np.array_equal(values_in(symbols, contexts), expected.numpy())
