"""The numba passes of taps against their definition in plain torch."""

from __future__ import annotations

import pytest
import torch

from mambaic_kernels.filter_taps.reference import (
    weighted_sums,
    weighted_sums_reference,
    write_taps,
    write_taps_reference,
)
from mambaic_kernels.filter_taps.scene import Map, Scene, Tap, count_taps

MARGIN = 2
AROUND = ((0, 2), (-1, 0), (2, -2))
LISTS = (
    (
        Tap(Map(2), (0, 1)),
        Tap(Map(0, clip=0.1), (1,)),
        Tap(Map(1, clip=0.0, share=2.0), (0,)),
    ),
    (
        Tap(Map(1, AROUND), (1, 0)),
        Tap(Map(0, AROUND, clip=0.1), (0,)),
        Tap(Map(1, AROUND, clip=0.02, share=0.5), (1,)),
    ),
)
TAPS = sum(map(count_taps, LISTS))
SIZES = [(1, 1), (3, 1100), (150, 5), (70, 512)]  # less, as much and more than what is cut off


def scene(height, width, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)

    def some(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    planes = 0.1 * some(2, height + 2 * MARGIN, width + 2 * MARGIN)
    maps = [*some(2, height, width + 3)[..., 1:-2], some(width).expand(height, width)]
    return Scene(planes, maps, list(some(2, height, width)), 0.1 * some(height, width).abs())


def some_coefficients():
    flat = torch.linspace(-1, 1, TAPS).split([count_taps(taps) for taps in LISTS])
    return [of_list.tolist() for of_list in flat]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_weighed_sums_match_the_definition(height, width):
    expected = weighted_sums_reference(
        scene(height, width, torch.float64), LISTS, some_coefficients()
    )
    found = weighted_sums(scene(height, width), LISTS, some_coefficients())
    assert found.shape == (len(LISTS), height, width)
    assert torch.allclose(found.double(), expected, atol=1e-5)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_terms_match_the_definition(height, width):
    rows = slice(height // 3, height)
    shape = TAPS, rows.stop - rows.start, width
    expected = torch.full(shape, torch.nan, dtype=torch.float64)
    write_taps_reference(scene(height, width, torch.float64), LISTS, rows, expected)
    found = torch.full(shape, torch.nan)
    write_taps(scene(height, width), LISTS, rows, found)
    assert torch.allclose(found.double(), expected, atol=1e-5)


def test_float64_takes_the_definition():
    found = weighted_sums(scene(4, 6, torch.float64), LISTS, some_coefficients())
    assert found.dtype == torch.float64


def test_maps_of_other_strides_are_refused():
    of = scene(6, 6)
    with pytest.raises(ValueError, match="contiguous rows"):
        weighted_sums(of._replace(maps=[of.deviation.T] * 3), LISTS, some_coefficients())


@pytest.mark.parametrize(
    "tap",
    [
        pytest.param(Tap(Map(3), (0,)), id="map"),
        pytest.param(Tap(Map(0), (2,)), id="factor"),
        pytest.param(Tap(Map(2, AROUND), (0,)), id="plane"),
        pytest.param(Tap(Map(0, ((MARGIN + 1, 0),)), (0,)), id="offset"),
    ],
)
def test_terms_of_what_a_scene_lacks_are_refused(tap):
    with pytest.raises(ValueError, match="does not have"):
        weighted_sums(scene(6, 6), ((tap,),), [[1.0]])


def test_maps_of_another_size_are_refused():
    of = scene(6, 6)
    with pytest.raises(ValueError, match="does not have"):
        weighted_sums(of._replace(factors=list(torch.zeros(2, 5, 6))), LISTS, some_coefficients())
