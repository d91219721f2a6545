"""What coders ask of priors: backends agree, indices to the last one."""

from __future__ import annotations

import pytest
import torch
from interpreted import assert_parity

from mambaic.coding.sites import Lattice
from mambaic_kernels import coding_order
from mambaic_kernels.coding_order import Latents, Scales, cpu, reference

SCALES = Scales(-2.2, 0.123, 64 - 1e-3)
CASES = [
    (lattice.value, size)
    for lattice, size in (
        (Lattice.ANCHOR, (4, 8)), (Lattice.NON_ANCHOR, (8, 4)), (Lattice.SECOND, (8, 12)),
        (Lattice.SECOND_CENTRE, (4, 4)), (Lattice.EVERY, (3, 5)), (Lattice.EVERY, (0, 5)),
    )
]  # fmt: skip


def operands(grids, size):
    generator = torch.Generator().manual_seed(size[1])
    full = torch.randn(2, 9, *size, generator=generator)
    rows = torch.stack([reference.take(full, grids)] * 2, dim=-1).flatten(-2)  # not dense in memory
    mean, log_scale = 0.9 * rows[..., 4:10:2], 9 * rows[..., ::2][..., 5:8]
    error = torch.randn(2, 16, *size, generator=generator)
    weights = torch.rand(3, 16, generator=generator)
    return Latents(full, 2, grids), mean, log_scale, error, weights


@pytest.mark.parametrize(("grids", "size"), CASES)
def test_cpu_matches_reference(grids, size):
    latents, mean, log_scale, *_ = operands(grids, size)
    expected = reference.indices(log_scale, SCALES)
    for found in (cpu.indices(log_scale, SCALES), coding_order.indices(log_scale, SCALES)):
        assert torch.equal(found, expected)
    if expected.numel():
        assert {0, 63} <= set(expected.flatten().tolist())
    both = latents, mean, log_scale, SCALES
    expected = reference.residuals_and_indices(*latents, *both[1:])
    assert torch.equal(cpu.residuals_and_indices(*latents, *both[1:]), expected)
    assert torch.equal(coding_order.residuals_and_indices(*both), expected)


def test_errors_are_added_where_latents_are():
    latents, _, log_scale, error, weights = operands(*CASES[0])
    before = error.clone()
    coding_order.add_errors(error, log_scale, weights, latents.grids, 0.2)
    expected = torch.exp(2 * log_scale).clamp(max=0.2) @ weights
    added = reference.take(error - before, latents.grids)
    torch.testing.assert_close(added, expected, atol=1e-5, rtol=0)
    assert float((error - before).abs().sum()) == pytest.approx(float(added.sum()), rel=1e-4)


TRITON_CHECK = """
import torch
from test_coding_order import CASES, SCALES, operands, reference
from mambaic_kernels.coding_order import triton
for case in CASES:
    latents, mean, log_scale, error, weights = operands(*case)
    expected = reference.indices(log_scale, SCALES)
    assert torch.equal(triton.indices(log_scale, SCALES).long(), expected), case
    expected = reference.residuals_and_indices(*latents, mean, log_scale, SCALES)
    found = triton.residuals_and_indices(*latents, mean, log_scale, SCALES)
    assert torch.equal(found, expected), case
    other = error.clone()
    reference.add_errors(error, log_scale, weights, case[0], 0.2)
    triton.add_errors(other, log_scale, weights, case[0], 0.2)
    assert torch.allclose(other, error, atol=1e-5), case
print("parity holds")
"""


def test_triton_equals_the_reference():
    assert_parity(TRITON_CHECK)
