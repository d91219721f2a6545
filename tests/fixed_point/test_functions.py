"""Tables of the fixed-point walk: near the functions, and the same on every machine."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mambaic.fixed_point import functions
from mambaic.nn.functions import LogFeatures
from mambaic.nn.grid import PER_UNIT, TABLE_BITS, UNIT, few_bits, to_grid

# by how much of a step a value may miss a tie between two roundings: libraries are off by 1e-7 of a
# step at most (half a unit in the last place of float64 or so, of TABLE_BITS)
CLEAR = 1e-6


def on_grid(low: float, high: float, count: int = 20_001) -> torch.Tensor:
    return to_grid(torch.linspace(low, high, count))


@pytest.mark.parametrize(
    ("table", "function", "low", "high", "tolerance"),
    [
        (functions.FixedExp(), torch.exp, -9.0, 11.0, None),
        (functions.FixedSigmoid(), torch.sigmoid, -20.0, 20.0, 6e-4),
        (functions.FixedTanh(), torch.tanh, -9.0, 9.0, 1.1e-3),
        (functions.FixedSiLU(), torch.nn.functional.silu, -30.0, 30.0, 6e-3),
        (functions.FixedSoftplus(), torch.nn.functional.softplus, -20.0, 20.0, 1.5e-3),
        (functions.FixedLeakyReLU(0.1), lambda x: torch.maximum(x, x / 10), -9.0, 9.0, UNIT),
        (functions.FixedLog1p(), torch.log1p, 0.0, 1000.0, 2.1e-3),
    ],
)
def test_a_table_is_near_its_function(table, function, low, high, tolerance):
    x = on_grid(low, high)
    expected = function(x)
    bound = tolerance if tolerance is not None else expected.abs() * 2.0**-TABLE_BITS
    assert bool(((table(x) - expected).abs() <= bound).all())


def test_log_features_of_latents():
    y = to_grid(torch.randn(1, 3, 20, 20) * torch.tensor([0.5, 20.0, 3000.0])[:, None, None])
    assert (functions.FixedLogFeatures()(y) - LogFeatures()(y)).abs().max() < 4e-3


def test_beyond_a_table_its_last_value_holds_and_nothing_is_read_beyond():
    for table in (functions.FixedExp(), functions.FixedTanh(), functions.FixedLog1p()):
        ends = table(torch.tensor([-1e30, 1e30]))
        assert bool(torch.isfinite(ends).all())


def ties(values: np.ndarray, per_step: np.ndarray | float) -> np.ndarray:
    """How far values are from the middle between two multiples of a step, in steps."""
    scaled = values * per_step
    return np.abs(scaled - np.floor(scaled) - 0.5)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (np.exp, -10 + np.arange(22 * 1024 + 1) / PER_UNIT),
        (lambda x: 1 / (1 + np.exp(-x)), -16 + np.arange(32 * 256 + 1) / 256),
        (np.tanh, -8 + np.arange(16 * 512 + 1) / 512),
        (np.log, functions.OctaveTable.centres()),
        (np.arcsinh, functions.OctaveTable.centres() - 1),
    ],
)
def test_no_value_of_a_table_is_near_a_tie_between_roundings(function, arguments):
    values = np.asarray(function(arguments))
    values = values[(values != 0) & (np.frexp(np.abs(values))[0] != 0.5)]  # exact ones
    _, exponent = np.frexp(values)
    assert ties(values, np.ldexp(1.0, TABLE_BITS - exponent)).min() > CLEAR


def test_few_bits_round_halves_to_even():
    one, step = 1.0, 2.0 ** (1 - TABLE_BITS)
    found = few_bits(np.array([one + 0.5 * step, one + 1.5 * step, -one - 0.5 * step, 0.0]))
    assert found.tolist() == [one, one + 2 * step, -one, 0.0]
