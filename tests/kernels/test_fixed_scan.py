"""The fixed-point scan: backends are equal bit by bit, and near the scan in floats."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mambaic_kernels import ss2d_scan
from mambaic_kernels.fixed_scan import cpu, reference


def operands(batch, height, width, channels, states, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)

    def some(*shape):
        return torch.round(1024 * torch.randn(shape, generator=generator)) / 1024

    positions = height * width
    u = scale * some(batch, positions, channels)
    dt = some(batch, positions, 4, channels).abs()
    rates = torch.arange(1.0, states + 1)[None, :, None].repeat(4, 1, channels)
    B, C = some(2, batch, positions, 4, states)
    return u, dt, rates, B.contiguous(), C.contiguous()


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1, 3, 1), (2, 5, 7, 20, 2), (1, 8, 3, 150, 4)])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_backends_are_equal(shape, reset, scale):
    inputs = operands(*shape, scale=scale)
    size = shape[1:3]
    expected = reference.fixed_scan(*inputs, size, reset=reset)
    assert torch.equal(cpu.fixed_scan(*inputs, size, reset=reset), expected)


@pytest.mark.parametrize("reset", [True, False])
def test_it_is_near_the_scan_in_floats(reset):
    u, dt, rates, B, C = operands(2, 6, 5, 16, 4)
    of_maps = [t.unflatten(1, (6, 5)) for t in (u, dt)]
    expected = ss2d_scan(
        *of_maps,
        -rates.transpose(1, 2),
        *(t.unflatten(1, (6, 5)) for t in (B, C)),
        delta_softplus=False,
        lines="reset" if reset else "flat",
        backend="reference",
    ).flatten(1, 2)
    found = cpu.fixed_scan(u, dt, rates, B, C, (6, 5), reset=reset)
    assert (found - expected).abs().max() < 0.005 * expected.abs().max()


def test_no_decay_is_near_a_tie_between_roundings():
    exact = np.exp(-np.arange(1, len(reference.DECAYS)) / reference.STEPS) * 2.0**15
    assert np.abs(exact - np.floor(exact) - 0.5).min() > 1e-6


def test_no_positions():
    u, dt, rates, B, C = operands(1, 0, 4, 8, 2)
    assert cpu.fixed_scan(u, dt, rates, B, C, (0, 4), reset=True).shape == u.shape
