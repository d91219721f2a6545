"""Fixed-point twins: near their networks, exact whatever the order of summation."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mambaic.config import PRESETS
from mambaic.fixed_point import layers
from mambaic.fixed_point.twin import measuring, reach_count, twin
from mambaic.nn import chunking
from mambaic.nn.attention import WindowAttention
from mambaic.nn.blocks import (
    FeatureConv2d,
    GridConv2d,
    GridFeatureConv2d,
    QualityModulation,
    ResidualBlock,
    RowConv2d,
)
from mambaic.nn.gains import QualityCurve
from mambaic.nn.grid import EXACT, PER_UNIT, to_grid
from mambaic.nn.vss import VSSBlock
from mambaic_kernels.grids import Grid

UNIT_PRESET = PRESETS["unit"]
GRIDS = Grid(0, 1, 2), Grid(1, 0, 2)
Q = torch.tensor([37.5])


def randomised(network: nn.Module, seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    for parameter in network.parameters():
        if bool((parameter == 0).all()):
            nn.init.normal_(parameter, std=0.2)
    return nn.Sequential(network).eval()


def maps(*shape: int, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return to_grid(scale * torch.randn(shape, generator=generator))


CASES = [
    pytest.param(nn.Conv2d(6, 5, 3, padding=1), (maps(2, 6, 9, 7),), id="convolution"),
    pytest.param(nn.Conv2d(6, 6, 3, padding=1, groups=6), (maps(2, 6, 9, 7),), id="depthwise"),
    pytest.param(nn.Linear(12, 5), (maps(3, 4, 12),), id="linear"),
    pytest.param(RowConv2d(12, 5), (maps(3, 4, 12),), id="rows"),
    pytest.param(GridConv2d(6, 5, 3), (maps(1, 6, 8, 8), GRIDS), id="grid"),
    pytest.param(GridFeatureConv2d(6, 5), (maps(1, 6, 8, 8, scale=9.0), GRIDS), id="both"),
    pytest.param(FeatureConv2d(6, 5, 2), (maps(1, 6, 8, 8, scale=9.0),), id="features"),
    pytest.param(nn.LayerNorm(24), (maps(2, 5, 24, scale=3.0) + 1.0,), id="norm"),
    pytest.param(ResidualBlock(8), (maps(1, 8, 9, 7),), id="residual block"),
    pytest.param(WindowAttention(32, 4), (maps(1, 32, 9, 7),), id="window attention"),
    pytest.param(VSSBlock(16, UNIT_PRESET.vss, 8), (maps(1, 16, 12, 9),), id="VSS block"),
    pytest.param(QualityModulation(8), (maps(1, 8, 4, 4), Q), id="modulation"),
    pytest.param(QualityCurve(5, 8), (Q,), id="curve"),
]


class Taking(nn.Module):
    """A network that takes more than one argument, within a sequence of one."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.network(*inputs)


def measured_twin(network: nn.Module, *inputs: torch.Tensor) -> nn.Module:
    reaches = torch.zeros(reach_count(network))
    with measuring(network, reaches):
        network(*inputs)
    return twin(network, reaches)


@torch.no_grad()
@pytest.mark.parametrize(("network", "inputs"), CASES)
def test_a_twin_is_near_its_network(network, inputs):
    network = Taking(randomised(network)[0])
    expected = network(*inputs)
    found = measured_twin(network, *inputs)(*inputs)
    # 8 bits of weights and at most 12 of inputs
    assert (found - expected).abs().mean() < 0.012 * expected.abs().mean() + 0.5 / PER_UNIT


@torch.no_grad()
@pytest.mark.parametrize(("network", "inputs"), CASES)
def test_whatever_a_twin_puts_out_is_on_the_grid(network, inputs):
    found = measured_twin(Taking(randomised(network)[0]), *inputs)(*inputs)
    assert torch.equal(found, to_grid(found))


@torch.no_grad()
@pytest.mark.parametrize(("network", "inputs"), CASES)
def test_a_twin_gives_the_same_numbers_with_any_threads_and_batch(network, inputs):
    fixed = measured_twin(Taking(randomised(network)[0]), *inputs)
    expected = fixed(*inputs)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if before > 1 else 2)
        assert torch.equal(fixed(*inputs), expected)
    finally:
        torch.set_num_threads(before)
    twice = [torch.cat([x, x]) if isinstance(x, torch.Tensor) else x for x in inputs]
    assert torch.equal(fixed(*twice)[: len(expected)], expected)


@torch.no_grad()
@pytest.mark.parametrize("factor", [1e-3, 1.0, 100.0, 1e6])
def test_sums_are_exact_for_inputs_of_any_size(factor):
    """Beyond the reach inputs are clamped: the sum of magnitudes of a row stays under EXACT."""
    torch.manual_seed(1)
    convolution = nn.Conv2d(64, 8, 3, padding=1)
    convolution.weight.copy_(convolution.weight.sign() * 0.1)  # the largest sums there are
    fixed = layers.FixedProduct(convolution, reach=1.0)
    x = factor * maps(1, 64, 6, 6).sign()
    integers = fixed.into(x)
    weight = fixed.layer.weight
    most = F.conv2d(integers.abs().double(), weight.abs().double(), padding=1).max()
    assert most <= EXACT
    exact = F.conv2d(integers.double(), weight.double(), padding=1)
    assert torch.equal(F.conv2d(integers, weight, padding=1).double(), exact)


@torch.no_grad()
def test_a_twin_does_not_depend_on_the_order_of_summation():
    """The channels of the input permuted, and those of the weight with them."""
    torch.manual_seed(2)
    convolution, x = nn.Conv2d(48, 8, 3, padding=1), maps(1, 48, 9, 9)
    order = torch.randperm(48)
    other = nn.Conv2d(48, 8, 3, padding=1)
    other.weight.copy_(convolution.weight[:, order])
    other.bias.copy_(convolution.bias)
    fixed, permuted = (layers.FixedProduct(layer, reach=3.0) for layer in (convolution, other))
    assert torch.equal(fixed(x), permuted(x[:, order]))
    norm = layers.FixedNorm(nn.LayerNorm(48), 4.0)
    rows = x.permute(0, 2, 3, 1)
    assert torch.equal(norm(rows)[..., order], norm(rows[..., order]))


@torch.no_grad()
@pytest.mark.parametrize("span", [0, 8])
def test_a_large_map_is_scanned_a_few_channels_at_a_time(monkeypatch, span):
    block = randomised(VSSBlock(48, UNIT_PRESET.vss, span))
    x = maps(1, 48, 16, 12)
    fixed = measured_twin(block, x)
    expected = fixed(x)
    monkeypatch.setattr(chunking, "POSITIONS_AT_ONCE", 20)
    assert torch.equal(fixed(x), expected)
