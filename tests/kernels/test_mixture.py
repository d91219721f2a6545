"""The fused mixture kernel against its definition in float64: values and all gradients."""

from __future__ import annotations

import pytest
import torch

from mambaic_kernels.mixture.reference import mixture_mass, reference


def operands(memory_format=torch.contiguous_format):
    """Residuals of up to several deviations, scales from 0.11 to 70, as in training."""
    g = torch.Generator().manual_seed(0)
    scale = torch.exp(torch.rand(2, 24, 9, 13, generator=g) * 6.5 - 2.2)
    value = torch.randn(scale.shape, generator=g) * scale * 1.5
    value[0, 0, 0, :2] = torch.tensor([0.0, -0.5])
    shaped = [t.contiguous(memory_format=memory_format) for t in (value, scale)]
    return [*shaped, torch.tensor(0.85), torch.tensor(2.2)]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_kernel_matches_the_definition(layout):
    fast = [t.requires_grad_() for t in operands(layout)]
    exact = [t.detach().double().requires_grad_() for t in fast]
    mass, expected = mixture_mass(*fast), reference(*exact)
    assert not torch.equal(mass.double(), reference(*(t.detach() for t in fast)).double())
    assert (mass - expected).abs().max() < 5e-7
    for value in (mass, expected):
        torch.log2(value.clamp(min=1e-9)).sum().backward()
    for a, b in zip(fast, exact, strict=True):
        assert ((a.grad - b.grad).abs() / (b.grad.abs() + 1e-3 * b.grad.abs().max())).max() < 1e-4


def test_other_shapes_and_types_follow_the_definition():
    value, scale, weight, ratio = operands()
    one = scale[:1, :1, :1, :1]
    expected = reference(value, one, weight, ratio)
    assert torch.equal(mixture_mass(value, one, weight, ratio), expected)
    double = [t.double() for t in (value, scale, weight, ratio)]
    assert torch.equal(mixture_mass(*double), reference(*double))


def test_operands_of_different_layouts_meet_at_the_same_positions():
    value, scale, weight, ratio = operands()
    other = scale.contiguous(memory_format=torch.channels_last)
    expected = mixture_mass(value, scale, weight, ratio)
    assert torch.equal(mixture_mass(value, other, weight, ratio), expected)
    last = value.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(mixture_mass(last, scale, weight, ratio), expected, atol=1e-7)


def test_operator_passes_opcheck():
    arguments = [t.requires_grad_() for t in operands()]
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.mambaic.mixture_mass, arguments, test_utils=checks)
