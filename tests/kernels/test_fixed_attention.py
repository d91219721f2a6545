"""Attention in fixed point: backends agree bit by bit, and what is beyond a map takes no share."""

from __future__ import annotations

import pytest
import torch
from interpreted import assert_parity

from mambaic_kernels.fixed_attention import Scales, attention, cpu, reference
from mambaic_kernels.fixed_point import reference as operations

POWERS = torch.round(torch.exp(-torch.arange(3072) / 256.0) * 16384)
SCALES = Scales((40.0, 300.0), (37.0, 300.0), (90.0, 1000.0), 2e-4, 256.0, 4095.0, 3e-6)
SIDE = 4
SIZES = [(2, 8, 4), (1, 5, 7), (1, 1, 1), (0, 4, 4)]


def operands(batch, height, width, heads=2, channels=5):
    generator = torch.Generator().manual_seed(height)
    qkv = operations.to_grid(
        3 * torch.randn(batch, height, width, 3 * heads * channels, generator=generator)
    )
    row, column = torch.arange(SIDE**2) // SIDE, torch.arange(SIDE**2) % SIDE
    down, right = row[:, None] - row + SIDE - 1, column[:, None] - column + SIDE - 1
    offset = down * (2 * SIDE - 1) + right
    bias = torch.randn(heads, (2 * SIDE - 1) ** 2, generator=generator)
    return qkv, bias, offset, POWERS, SCALES


@pytest.mark.parametrize("size", SIZES)
def test_cpu_matches_reference(size):
    expected = reference.attention(*operands(*size))
    assert torch.equal(cpu.attention(*operands(*size)), expected)
    assert torch.equal(attention(*operands(*size)), expected)


def test_what_is_beyond_the_map_takes_no_share():
    """The window in the corner has two rows and three columns: as if there were these alone."""
    qkv, bias, offset, *rest = operands(1, SIDE + 2, SIDE + 3)
    found = reference.attention(qkv, bias, offset, *rest)[0, SIDE:, SIDE:].reshape(6, 2, 5)
    there = torch.tensor([SIDE * row + column for row in range(2) for column in range(3)])
    of_corner = qkv[0, SIDE:, SIDE:].reshape(6, 3, 2, 5).permute(1, 2, 0, 3)
    q, k, v = (operations.to_levels(x, *of) for x, of in zip(of_corner, SCALES[:3], strict=True))
    logits = bias[:, offset[there][:, there]]
    parts = operations.shares(q @ k.mT, logits, POWERS, *SCALES[3:6])
    expected = operations.to_grid(parts @ v * SCALES.out)
    assert torch.equal(found, expected.transpose(0, 1))


def test_nan_ends_nothing():
    qkv, *rest = operands(1, 5, 7)
    assert cpu.attention(torch.full_like(qkv, torch.nan), *rest).shape == (1, 5, 7, 10)


TRITON_CHECK = """
import torch
from test_fixed_attention import SIZES, operands, reference
from mambaic_kernels.fixed_attention import triton
for size in SIZES:
    expected = reference.attention(*operands(*size))
    assert torch.equal(triton.attention(*operands(*size)), expected), size
print("parity holds")
"""


def test_triton_equals_the_reference():
    assert_parity(TRITON_CHECK)
