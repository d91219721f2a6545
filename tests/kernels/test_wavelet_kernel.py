"""The fused wavelet against its definition by lifting steps: values, inverse and gradients."""

from __future__ import annotations

import pytest
import torch

from mambaic_kernels.wavelet import cpu as wavelet_cpu
from mambaic_kernels.wavelet import fixed
from mambaic_kernels.wavelet import reference as wavelet
from mambaic_kernels.wavelet.reference import (
    analyse,
    analyse_reference,
    synthesise,
    synthesise_reference,
)

SIZES = [(2, 2), (4, 30), (66, 16), (48, 70)]


def picture(height, width, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64).to(dtype)


@pytest.fixture
def lifting(monkeypatch):
    """The definition itself: no matrices in its place."""
    monkeypatch.setattr(wavelet, "MATRIX_MAX", 0)


@pytest.mark.usefixtures("lifting", "threads")
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_analyse_and_its_gradient_match_the_definition(height, width):
    x = picture(height, width)
    bands, gradient = with_gradient(analyse, x)
    expected, expected_gradient = with_gradient(analyse_reference, x.double())
    assert bands.shape == (4, 2, 3, height // 2, width // 2)
    assert torch.allclose(bands.double(), expected, atol=1e-5)
    assert torch.allclose(gradient.double(), expected_gradient, atol=1e-4)


@pytest.mark.usefixtures("lifting", "threads")
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_synthesise_and_its_gradient_match_the_definition(height, width):
    bands = picture(4 * height, width).view(4, 2, 3, height // 2, 2 * width)[..., :width]
    x, gradient = with_gradient(synthesise, bands)
    expected, expected_gradient = with_gradient(synthesise_reference, bands.double())
    assert x.shape == (2, 3, height, 2 * width)
    assert torch.allclose(x.double(), expected, atol=1e-5)
    assert torch.allclose(gradient.double(), expected_gradient, atol=1e-4)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_in_fixed_point_every_product_is_rounded(height, width):
    bands = torch.round(3000 * picture(4 * height, width)).view(4, 2, 3, height, width) / 1024
    expected = fixed.synthesise_reference(bands, 1024.0)
    assert expected.shape == (2, 3, 2 * height, 2 * width)
    assert torch.equal(fixed.synthesise(bands, 1024.0), expected)


def with_gradient(function, operand):
    """Value, and the gradient of the sum of its squares."""
    operand = operand.clone().requires_grad_()
    value = function(operand)
    value.pow(2).sum().backward()
    return value.detach(), operand.grad


def test_planes_worked_on_part_by_part_give_the_same(monkeypatch):
    x = picture(20, 36)
    bands = analyse(x)
    inverse = synthesise(bands)
    monkeypatch.setattr(wavelet_cpu, "CACHED", 4 * 20 * 36)  # 4 of the 6 planes, then 2
    assert len(wavelet_cpu._parts(6, 20 * 36)) == 2
    assert torch.equal(analyse(x), bands)
    assert torch.equal(synthesise(bands), inverse)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_synthesise_inverts_analyse(dtype):
    x = picture(20, 36, dtype)
    assert torch.allclose(synthesise(analyse(x)), x, atol=1e-5)


def test_matrices_and_lifting_agree(monkeypatch):
    x = picture(64, 96, torch.float64)
    bands = analyse_reference(x)
    inverse = synthesise_reference(bands)
    monkeypatch.setattr(wavelet, "MATRIX_MAX", 0)
    assert not torch.equal(analyse_reference(x), bands)
    assert torch.allclose(analyse_reference(x), bands)
    assert torch.allclose(synthesise_reference(bands), inverse)


@pytest.mark.parametrize("transposed", [False, True])
def test_operators_pass_opcheck(transposed):
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    x = picture(6, 10)[0].requires_grad_()
    bands = picture(4, 5)[0].repeat(4, 1, 1, 1).requires_grad_()
    operators = torch.ops.mambaic
    torch.library.opcheck(operators.wavelet_analyse, (x, transposed), test_utils=checks)
    torch.library.opcheck(operators.wavelet_synthesise, (bands, transposed), test_utils=checks)
