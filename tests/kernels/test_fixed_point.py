"""The fixed-point operations by numba equal their definitions bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from interpreted import assert_parity

from mambaic_kernels import fixed_point
from mambaic_kernels.fixed_point import cpu, reference

SHAPES = [(0,), (1,), (3, 50), (2, 7, 5, 3), (300, 401)]


def some(shape, scale=5.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(shape, generator=generator)
    x.view(-1)[: x.numel() // 3] = torch.round(x.view(-1)[: x.numel() // 3] * 2048) / 2048  # ties
    return x


@pytest.fixture(params=["dense", "channels last", "gaps"])
def layout(request):
    def laid_out(x):
        if request.param == "channels last" and x.ndim == 4:
            return x.contiguous(memory_format=torch.channels_last)
        if request.param == "gaps" and x.ndim > 1:
            return torch.cat([x, x], dim=-1)[..., : x.shape[-1]]
        return x

    return laid_out


@pytest.mark.parametrize("shape", SHAPES)
def test_elementwise_operations(shape, layout):
    x = layout(some(shape))
    table = some((400,), seed=1)
    for name, arguments in {
        "to_grid": (),
        "to_levels": (17.3, 40.0),
        "look_up": (table, -8.0, 25.0),
        "softplus": (table, 25.0),
    }.items():
        expected = getattr(reference, name)(x, *arguments)
        assert torch.equal(getattr(cpu, name)(x, *arguments), expected), name
        assert torch.equal(getattr(fixed_point, name)(x, *arguments), expected), name
    v = layout(some(shape, 100.0).abs() + 1)
    octaves = (some((1000,), seed=2), 23 - 6, 127 << 6)
    expected = reference.look_up_octaves(v, *octaves)
    assert torch.equal(cpu.look_up_octaves(v, *octaves), expected)


def test_silu_of_half_of_a_layer(layout):
    x, table = layout(some((2, 7, 5, 6))), some((400,), seed=1)
    expected = reference.to_grid(reference.look_up(x, table, -8.0, 25.0) * x)
    assert torch.equal(fixed_point.silu(x, table, -8.0, 25.0), expected)


@pytest.mark.parametrize("beyond", [-1e30, 1e30, -np.inf, np.inf])
def test_beyond_a_table_is_its_end(beyond):
    table = torch.arange(10.0)
    found = cpu.look_up(torch.tensor([beyond], dtype=torch.float32), table, 0.0, 1.0)
    assert float(found) == (9.0 if beyond > 0 else 0.0)


def test_nan_reads_an_end_of_a_table():
    """And nothing beyond it, which would end the process."""
    nan, table = torch.full((2, 3, 40), torch.nan), torch.arange(1.0, 11.0)
    assert torch.equal(cpu.look_up(nan, table, 0.0, 1.0), torch.ones_like(nan))
    assert cpu.silu(nan, table, 0.0, 1.0).isnan().all()
    assert torch.equal(cpu.softplus(nan, table, 1.0).nan_to_num(10.0), torch.full_like(nan, 10.0))


def test_leaky(layout):
    x = layout(some((2, 7, 5, 6)))
    assert torch.equal(fixed_point.leaky(x, 0.1), x.maximum(reference.to_grid(x * 0.1)))


@pytest.mark.parametrize("rows", [0, 1, 33, 5000])
def test_norm(rows):
    x = reference.to_grid(some((rows, 160), 3.0) + 1)
    weight, bias = some((160,), 1.0, 1), reference.to_grid(some((160,), 1.0, 2))
    levels = (1e4, 104_857.0, 6.25e-7), (40.0, 1023.0, 3.9e-6)
    expected = reference.norm(x, weight, bias, *levels, 1e-5)
    assert torch.equal(cpu.norm(x, weight, bias, *levels, 1e-5), expected)


@pytest.mark.parametrize("bias_shape", [(1, 3, 16, 16), (5, 3, 16, 16), (5, 1, 1, 16)])
def test_shares(bias_shape):
    products, bias = torch.round(some((5, 3, 16, 16), 2000.0)), some(bias_shape, 1.0, 1)
    bias[..., -2:] -= 1e4
    powers = torch.round(torch.exp(-torch.arange(3072) / 256.0) * 16384)
    constants = powers, 2.7e-4, 256.0, 4095.0
    expected = reference.shares(products, bias, *constants)
    assert (expected.sum(dim=-1) - 4095).abs().max() <= 8


@pytest.mark.parametrize("shape", [(2, 7, 5, 3), (1, 1, 9, 40), (1, 1100, 2, 2), (1, 5, 0, 4)])
@pytest.mark.parametrize("most", [127.0, 500.0])
def test_features(shape, layout, most):
    y = layout(some(shape, 90.0))
    octaves, levels = (some((1000,), 9.0, seed=2).abs(), 23 - 6, 127 << 6), (17.3, most)
    expected = reference.feature_levels(y, *octaves, *levels)
    assert torch.equal(cpu.feature_levels(y, *octaves, *levels), expected)
    digits = reference.to_digits(expected, 1.0, levels[1])
    assert torch.equal(cpu.feature_digits(y, *octaves, *levels), digits)


TRITON_CHECK = """
import torch
from test_fixed_point import reference, some
from mambaic_kernels.fixed_point import triton
empty_like = torch.empty_like
torch.empty_like = lambda *a, **k: empty_like(*a, **k).fill_(torch.nan)  # unwritten places show


def check(name, x, *more):
    expected = getattr(reference, name)(x.clone(), *more)
    assert torch.equal(getattr(triton, name)(x, *more), expected), (name, x.shape)


table = some((400,), seed=1)
channels_last = some((2, 7, 5, 3)).contiguous(memory_format=torch.channels_last)
for x in (some((0,)), some((3, 50)), some((70, 31), 1e7), some((6, 9))[:, ::2], channels_last):
    check("to_grid", x)
    check("to_levels", x, 17.3, 40.0)
    check("look_up", x, table, -8.0, 25.0)
    check("softplus", x, table, 25.0)
    check("look_up_octaves", 20 * x.abs() + 1, some((1000,), seed=2), 23 - 6, 127 << 6)
x = reference.to_grid(some((5, 160), 3.0) + 1)
levels = (1e4, 104_857.0, 6.25e-7), (40.0, 1023.0, 3.9e-6)
check("norm", x, some((160,), 1.0, 1), reference.to_grid(some((160,), 1.0, 2)), *levels, 1e-5)
print("parity holds")
"""


def test_triton_equals_the_reference():
    assert_parity(TRITON_CHECK)
