"""Products by 8-bit instructions give the integers that float32 gives."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mambaic.fixed_point import byte_products
from mambaic.fixed_point.functions import FixedLeakyReLU
from mambaic.fixed_point.layers import FixedProduct
from mambaic.nn.blocks import FeatureConv2d, GridConv2d, GridFeatureConv2d, RowConv2d
from mambaic_kernels.grids import Grid

GRIDS = Grid(0, 1, 2), Grid(1, 0, 2)
needs_bytes = pytest.mark.skipif(
    not byte_products.exact_bytes(), reason="this CPU has no exact products of bytes"
)
LAYERS = {
    "linear": (lambda: nn.Linear(160, 33), (3, 5, 160), ()),
    "linear of a map": (lambda: nn.Linear(24, 8), (2, 6, 5, 24), ()),
    "3x3": (lambda: nn.Conv2d(5, 7, 3, padding=1), (2, 5, 9, 11), ()),
    "patches": (lambda: nn.Conv2d(3, 16, 8, stride=8), (1, 3, 16, 24), ()),
    "1x1": (lambda: nn.Conv2d(300, 9, 1, bias=False), (1, 300, 3, 2), ()),
    "rows": (lambda: RowConv2d(30, 12), (2, 17, 30), ()),
    "features": (lambda: FeatureConv2d(12, 9, 2), (1, 12, 7, 6), ()),
    "features at grids": (lambda: GridFeatureConv2d(6, 9), (1, 6, 12, 14), (GRIDS,)),
    "grid": (lambda: GridConv2d(16, 24, 5), (1, 16, 12, 14), (GRIDS,)),
    "grid of rows": (lambda: GridConv2d(16, 24, 1), (1, 16, 12, 16), (GRIDS,)),
}


def both_ways(monkeypatch, layer, x, where=()):
    """The results in bytes and in float32."""
    found = []
    for least in (0, 1 << 62):
        monkeypatch.setattr(byte_products, "LEAST", least)
        found.append(layer(x, *where))
    return found


@needs_bytes
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("most", [127, 2047])
def test_the_same_sums(monkeypatch, name, layout, most):
    make, shape, where = LAYERS[name]
    torch.manual_seed(len(name))
    layer = FixedProduct(make(), 3.0, most)
    x = 4 * torch.randn(shape)  # a part of it beyond the reach
    if len(shape) == 4:
        x = x.contiguous(memory_format=layout)
    used = []
    product = byte_products.ByteProduct.__call__
    monkeypatch.setattr(
        byte_products.ByteProduct,
        "__call__",
        lambda self, *a: used.append(True) or product(self, *a),
    )
    in_bytes, in_floats = both_ways(monkeypatch, layer, x, where)
    assert used == [True]
    assert torch.equal(in_bytes, in_floats)


LARGE = {
    "rows": (lambda: nn.Linear(24, 8), (1, 7, 5, 24), {}),
    "rows with factors": (lambda: RowConv2d(30, 12), (1, 17, 30), {"times"}),
    "3x3": (lambda: nn.Conv2d(5, 7, 3, padding=1), (1, 5, 9, 11), {}),
    "1x1": (lambda: nn.Conv2d(5, 7, 1), (1, 5, 9, 4), {}),
    "far apart": (lambda: FeatureConv2d(12, 9, 2), (1, 12, 7, 6), {}),
    "of two pictures": (lambda: nn.Conv2d(5, 7, 3, padding=1), (2, 5, 9, 11), {}),
    "patches": (lambda: nn.Conv2d(3, 16, 4, stride=4), (1, 3, 16, 24), {}),
}


@needs_bytes
@pytest.mark.parametrize("cached", [1, 500])
@pytest.mark.parametrize("most", [127, 2047])
@pytest.mark.parametrize("name", LARGE)
def test_part_by_part_is_the_same(monkeypatch, name, cached, most):
    make, shape, with_factors = LARGE[name]
    torch.manual_seed(len(name))
    layer, act = FixedProduct(make(), 3.0, most), FixedLeakyReLU(0.1)
    x = torch.randn(shape)
    if len(shape) == 4 and not isinstance(layer.layer, nn.Linear):
        x = x.contiguous(memory_format=torch.channels_last)
    around = {"act": act, "plus": torch.randn_like(layer(x)), "affine": None}
    if with_factors:
        around["times"] = torch.rand_like(x)
    monkeypatch.setattr(byte_products, "LEAST", 0)
    whole = layer.fused(x, **around)
    monkeypatch.setattr(byte_products, "CACHED", cached)
    assert torch.equal(layer.fused(x, **around), whole)


@needs_bytes
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_sums(monkeypatch, sign):
    """Pairs of products that 16 bits do not hold, all of one sign."""
    linear = nn.Linear(64, 8)
    nn.init.constant_(linear.weight, 1.0)
    conv = nn.Conv2d(7, 8, 3, padding=1)
    nn.init.constant_(conv.weight, -1.0)
    for layer, shape in ((linear, (4, 64)), (conv, (1, 7, 6, 6))):
        fixed = FixedProduct(layer, reach=1.0)
        in_bytes, in_floats = both_ways(monkeypatch, fixed, torch.full(shape, 2.0 * sign))
        assert torch.equal(in_bytes, in_floats)
        assert fixed.into.levels == 2047


@needs_bytes
def test_no_digits_where_gradients_or_groups_are(monkeypatch):
    monkeypatch.setattr(byte_products, "LEAST", 0)
    monkeypatch.setattr(byte_products.ByteProduct, "__call__", lambda *_: pytest.fail("used"))
    FixedProduct(nn.Conv2d(6, 6, 3, groups=6), 1.0)(torch.zeros(1, 6, 4, 4))
    FixedProduct(nn.Linear(6, 6), 1.0)(torch.zeros(1, 6, requires_grad=True))


def test_a_cpu_whose_pairs_saturate_is_found_out(monkeypatch):
    """As oneDNN's products are with AVX2 alone."""

    def saturating(self, digits, *where):
        sums = torch.full((2, 64, 14, 14), 9.0 * 64 * 127 * 100)
        return sums if digits.ndim == 4 else torch.full((2, 256, 64), 64.0 * 127 * 100)

    monkeypatch.setattr(byte_products.ByteProduct, "__call__", saturating)
    byte_products.exact_bytes.cache_clear()
    try:
        assert not byte_products.exact_bytes()
    finally:
        byte_products.exact_bytes.cache_clear()
