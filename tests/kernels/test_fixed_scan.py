"""The fixed-point scan: backends are equal bit by bit, and near the scan in floats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from interpreted import assert_parity

from mambaic_kernels import KernelUnavailable, available, ss2d_scan
from mambaic_kernels.fixed_point.activation import SOFTPLUS, Activation
from mambaic_kernels.fixed_product import reference as definition
from mambaic_kernels.fixed_scan import Steps, cpu, fixed_scan, projected_scan, reference


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


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("span", [3, 4, 16])
def test_squares_are_scanned_each_alone(span, reset):
    u, dt, rates, B, C = operands(2, 7, 10, 5, 2)
    skip = torch.arange(5) / 7
    constants = {"reset": reset, "span": span, "skip": skip}
    found = cpu.fixed_scan(u, dt, rates, B, C, (7, 10), **constants)
    assert torch.equal(found, reference.fixed_scan(u, dt, rates, B, C, (7, 10), **constants))
    of_first = [t.unflatten(1, (7, 10))[:, :span, :span] for t in (u, dt, B, C)]
    size = tuple(of_first[0].shape[1:3])
    x, t, b, c = (of.flatten(1, 2) for of in of_first)
    alone = cpu.fixed_scan(x, t, rates, b, c, size, reset=reset, skip=skip)
    assert torch.equal(found.unflatten(1, (7, 10))[:, :span, :span].flatten(1, 2), alone)


@pytest.mark.parametrize(("reset", "span"), [(True, 0), (True, 3), (True, 4), (False, 0)])
@pytest.mark.parametrize("shape", [(2, 7, 10, 37, 2, 3), (1, 32, 40, 64, 4, 6)])
def test_time_steps_are_made_on_the_way(shape, reset, span):
    batch, height, width, channels, states, rank = shape
    generator = torch.Generator().manual_seed(4)

    def some(*shape):
        return torch.round(1024 * torch.randn(shape, generator=generator)) / 1024

    u, inputs = (
        some(batch, height, width, channels),
        some(batch, height, width, 4, rank + 2 * states),
    )
    weight = torch.round(50 * some(4, rank, channels))
    act = Activation(SOFTPLUS, 0.0, 256.0, some(900).abs())
    steps = Steps(weight, some(4, channels).abs(), some(4, channels), (90.0, 100.0), act)
    rates, skip = 1 + some(4, states, channels).abs(), some(channels)
    low_rank, B, C = inputs.split([rank, states, states], dim=-1)
    dt = definition.directed(low_rank, *steps)
    maps = (t.flatten(1, 2) for t in (u, dt))
    of_states = (t.flatten(1, 2) for t in (B, C))
    squares = {"reset": reset, "span": span, "skip": skip}
    expected = reference.fixed_scan(*maps, rates, *of_states, (height, width), **squares)
    found = projected_scan(u, inputs, steps, rates, **squares)
    assert torch.equal(found.flatten(1, 2), expected)


def test_no_positions():
    u, dt, rates, B, C = operands(1, 0, 4, 8, 2)
    assert cpu.fixed_scan(u, dt, rates, B, C, (0, 4), reset=True).shape == u.shape


def test_nan_ends_nothing():
    u, dt, rates, B, C = operands(1, 3, 4, 8, 2)
    nan = torch.full_like(dt, torch.nan)
    assert cpu.fixed_scan(u, nan, rates, B, C, (3, 4), reset=True).shape == u.shape


TRITON_CHECK = """
import torch
from test_fixed_scan import fixed_scan, operands, reference
empty_like = torch.empty_like
torch.empty_like = lambda *a, **k: empty_like(*a, **k).fill_(torch.nan)  # unwritten places show
for shape, scale in {cases}:
    for reset in (True, False):
        inputs, size = operands(*shape, scale=scale), shape[1:3]
        expected = reference.fixed_scan(*inputs, size, reset=reset)
        found = fixed_scan(*inputs, size, reset=reset, backend="triton")
        assert torch.equal(found, expected), (shape, reset)
u, dt, rates, B, C = operands(2, 5, 7, 5, 2)
skip = torch.arange(5) / 7
together = torch.cat([B, B, C], dim=-1)
for reset in (True, False):
    for span in (0, 3, 9):
        constants = {{"reset": reset, "span": span, "skip": skip}}
        expected = reference.fixed_scan(u, dt, rates, B, C, (5, 7), **constants)
        views = together[..., 2:4], together[..., 4:]
        found = fixed_scan(u, dt, rates, *views, (5, 7), backend="triton", **constants)
        assert torch.equal(found, expected), (reset, span)
none = operands(1, 0, 4, 8, 2)
assert fixed_scan(*none, (0, 4), reset=True, backend="triton").shape == none[0].shape
print("parity holds")
"""


def test_triton_equals_the_reference():
    # the last one has states beyond what float32 holds exactly
    cases = [((2, 2, 3, 3, 2), 1.0), ((1, 1, 2, 35, 1), 1.0), ((1, 3, 1, 2, 4), 1e6)]
    assert_parity(TRITON_CHECK, cases=cases)


def test_a_backend_that_cannot_run_says_so():
    if "triton" in available():
        pytest.skip("Triton can run here")
    with pytest.raises(KernelUnavailable, match="triton"):
        fixed_scan(*operands(1, 2, 2, 4, 1), (2, 2), reset=True, backend="triton")
