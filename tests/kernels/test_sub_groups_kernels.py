"""What lies between sub-groups of a coding step: backends agree bit by bit."""

from __future__ import annotations

import pytest
import torch
from interpreted import assert_parity

from mambaic.fixed_point.functions import FixedNormalise
from mambaic_kernels.fixed_point.reference import to_grid
from mambaic_kernels.sub_groups import cpu, moved, normalised, reference

TABLES = FixedNormalise((-2.2, 5.5)).tables
SHAPES = [(2, 7, 5), (1, 1, 1), (2, 0, 3), (1, 70, 33)]


def operands(batch, positions, channels):
    generator = torch.Generator().manual_seed(positions)
    of = to_grid(20 * torch.randn(batch, positions, 4 * channels, generator=generator))
    coded, mean, by, log_scale = of.chunk(4, dim=-1)  # not dense in memory
    return coded, mean, log_scale / 4, by


@pytest.mark.parametrize("shape", SHAPES)
def test_cpu_matches_reference(shape):
    coded, mean, log_scale, by = operands(*shape)
    for found in (cpu.normalised, normalised):
        pairs = zip(
            found(coded, mean, log_scale, TABLES),
            reference.normalised(coded, mean, log_scale, TABLES),
            strict=True,
        )
        assert all(torch.equal(*pair) for pair in pairs)
    expected = reference.moved(mean, log_scale, by, TABLES)
    assert torch.equal(cpu.moved(mean, log_scale, by, TABLES), expected)
    assert torch.equal(moved(mean, log_scale, by, TABLES), expected)


def test_nan_reads_an_end_of_a_table():
    """And nothing beyond it, which would end the process."""
    nan = torch.full((1, 7, 5), torch.nan)
    assert cpu.normalised(nan, nan, nan, TABLES)[1].shape == (1, 7, 15)
    assert cpu.moved(nan, nan, nan, TABLES).isnan().all()


TRITON_CHECK = """
import torch
from test_sub_groups_kernels import SHAPES, TABLES, operands, reference
from mambaic_kernels.sub_groups import triton
for shape in SHAPES:
    coded, mean, log_scale, by = operands(*shape)
    for found, expected in zip(
        triton.normalised(coded, mean, log_scale, TABLES),
        reference.normalised(coded, mean, log_scale, TABLES),
        strict=True,
    ):
        assert torch.equal(found, expected), shape
    expected = reference.moved(mean, log_scale, by, TABLES)
    assert torch.equal(triton.moved(mean, log_scale, by, TABLES), expected), shape
print("parity holds")
"""


def test_triton_equals_the_reference():
    assert_parity(TRITON_CHECK)
