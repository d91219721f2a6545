"""Every operation that the walk and the post-filter launch, on small operands: for the comparison
of a backend on a device with the definition."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mambaic_kernels.coding_order.reference import Scales as IndexScales
from mambaic_kernels.filter_maps.constants import MARGIN
from mambaic_kernels.fixed_attention.reference import Scales
from mambaic_kernels.fixed_point.activation import SILU, SOFTPLUS, TABLE, Activation
from mambaic_kernels.fixed_product.places import Places
from mambaic_kernels.grids import Grid
from mambaic_kernels.sub_groups.reference import Tables

GRIDS = Grid(0, 1, 2), Grid(1, 0, 2)


class Operands:
    """Numbers of a device, the same ones on every device."""

    def __init__(self, device: torch.device) -> None:
        self._generator = torch.Generator().manual_seed(0)
        self._device = device

    def grid(self, *shape: int, scale: float = 3.0) -> Tensor:
        """Multiples of 1 / 1024."""
        found = torch.randn(shape, generator=self._generator)
        return torch.round(1024 * scale * found).div(1024).to(self._device)

    def integers(self, *shape: int, most: int = 127) -> Tensor:
        found = torch.randint(-most, most + 1, shape, generator=self._generator)
        return found.float().to(self._device)

    def table(self, kind: int) -> Activation:
        return Activation(kind, 0.0 if kind == SOFTPLUS else -8.0, 50.0, self.grid(900))


def _fixed_point(module: Any, of: Operands) -> list[Tensor]:
    x, values = of.grid(3, 7, 160), of.grid(400)
    levels = (1e4, 104_857.0, 6.25e-7), (40.0, 1023.0, 3.9e-6)
    octaves = of.grid(1000).abs(), 23 - 6, 127 << 6  # magnitudes
    return [
        module.to_grid(x / 3),
        module.look_up(x, values, -8.0, 25.0),
        module.softplus(x, values, 25.0),
        module.norm(x, of.grid(160), of.grid(160), *levels, 1e-5),
        module.feature_levels(of.grid(2, 5, 7, 6, scale=90.0), *octaves, 17.3, 500.0),
    ]


def _fixed_product(module: Any, of: Operands) -> list[Tensor]:
    rest = of.grid(33).abs(), of.grid(33), (11.3, 500.0)
    x, weight, factors = of.grid(2, 20, 8, 12), of.integers(33, 20, 3, 3), of.grid(2, 33)
    silu, rows = of.table(SILU), of.grid(2, 48, 33)
    low_rank = of.grid(2, 3, 5, 4, 11), of.integers(4, 11, 37), of.grid(4, 37).abs()
    depthwise = Places(1, 3, 1, depthwise=True)
    return [
        module.product(x, weight, *rest, Places(1, 3, 1), act=silu),
        module.product(x, weight, *rest, Places(1, 3, 1, grids=GRIDS), plus=rows),
        module.product(
            rows, weight[:, :, 0].flatten(1)[:, :33].contiguous(), *rest, Places(), rows,
            (factors, factors), silu,
        ),
        module.product(of.grid(2, 33, 8, 5), of.integers(33, 1, 3, 3), *rest, depthwise),
        module.directed(*low_rank, of.grid(4, 37), (11.3, 500.0), of.table(SOFTPLUS)),
    ]  # fmt: skip


def _fixed_scan(module: Any, of: Operands) -> list[Tensor]:
    u, dt, rates = of.grid(2, 35, 40), of.grid(2, 35, 4, 40).abs(), of.grid(4, 4, 40).abs()
    B, C, skip = of.grid(2, 35, 4, 4), of.grid(2, 35, 4, 4), of.grid(40)
    operands = u, dt, rates, B, C, (5, 7)
    return [
        module.fixed_scan(*operands, reset=True, span=4, skip=skip),
        module.fixed_scan(*operands, reset=False),
    ]


def _fixed_attention(module: Any, of: Operands) -> list[Tensor]:
    side = 8
    row, column = torch.arange(side**2) // side, torch.arange(side**2) % side
    down, right = row[:, None] - row + side - 1, column[:, None] - column + side - 1
    qkv, bias = of.grid(2, 9, 11, 3 * 64), of.grid(2, (2 * side - 1) ** 2)
    offset = (down * (2 * side - 1) + right).to(qkv.device)
    powers = torch.round(torch.exp(-torch.arange(3072) / 256.0) * 16384).to(qkv.device)
    levels = (40.0, 300.0), (37.0, 300.0), (90.0, 1000.0)
    return [module.attention(qkv, bias, offset, powers, Scales(*levels, 2e-4, 256.0, 4095.0, 3e-6))]


def _sub_groups(module: Any, of: Operands) -> list[Tensor]:
    coded, mean, log_scale = of.grid(2, 50, 9, scale=20.0), of.grid(2, 50, 9), of.grid(2, 50, 9)
    exp = Activation(TABLE, -10.0, 50.0, of.grid(1100).abs() + 1)
    octaves = of.grid(256 * 44), 23 - 8, 127 << 8
    tables = Tables(exp, *octaves, of.table(TABLE), (-2.2, 5.5))
    return [
        *module.normalised(coded, mean, log_scale, tables),
        module.moved(mean, log_scale, coded, tables),
    ]


def _coding_order(module: Any, of: Operands) -> list[Tensor]:
    full, mean, log_scale = of.grid(2, 9, 8, 12), of.grid(2, 48, 3), of.grid(2, 48, 3)
    scales, error = IndexScales(-2.2, 0.123, 63.999), torch.zeros_like(of.grid(2, 16, 8, 12))
    module.add_errors(error, log_scale, of.grid(3, 16), GRIDS, 0.2)
    return [
        module.indices(log_scale, scales).long(),
        module.residuals_and_indices(full, 2, GRIDS, mean, log_scale, scales),
        error,
    ]


def _filter_maps(module: Any, of: Operands) -> list[Tensor]:
    planes = of.grid(3, 9 + 2 * MARGIN, 70 + 2 * MARGIN, scale=0.2)
    maps = getattr(module, "filter_maps_reference", None) or module.filter_maps
    return list(maps(planes, of.grid(9, 70, scale=0.05).abs()))


class Case(NamedTuple):
    """Results of the operations of a package by a backend's module, and how far they may be from
    the definition's, where they are not of fixed point."""

    results: Callable[[Any, Operands], list[Tensor]]
    tolerance: float = 0.0


CASES = {
    "fixed_point": Case(_fixed_point),
    "fixed_product": Case(_fixed_product),
    "fixed_scan": Case(_fixed_scan),
    "fixed_attention": Case(_fixed_attention),
    "sub_groups": Case(_sub_groups),
    "coding_order": Case(_coding_order, 1e-5),
    "filter_maps": Case(_filter_maps, 1e-5),
}


def difference(operation: str, backend: str, device: torch.device) -> float:
    """The largest of a backend's results on a device from those of the definition on the host."""
    package = f"mambaic_kernels.{operation}"
    results = CASES[operation].results
    expected = results(
        importlib.import_module(f"{package}.reference"), Operands(torch.device("cpu"))
    )
    found = results(importlib.import_module(f"{package}.{backend}"), Operands(device))
    return max(
        float((one.cpu() - other).abs().max()) for one, other in zip(found, expected, strict=True)
    )
