"""Products in fixed point, with all that comes before and after: backends agree bit by bit."""

from __future__ import annotations

import pytest
import torch
from interpreted import assert_parity

from mambaic_kernels.fixed_point import activation, reference
from mambaic_kernels.fixed_point.activation import Activation
from mambaic_kernels.fixed_product import cpu, passes, places, product
from mambaic_kernels.fixed_product import reference as definition
from mambaic_kernels.fixed_product.places import Places
from mambaic_kernels.grids import Grid


def some(*shape, scale=3.0, seed=0):
    return reference.to_grid(
        scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    )


def integers(*shape, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-127, 128, shape, generator=generator).float()


TABLE = some(900, seed=9)
ACTIVATIONS = [
    None,
    Activation(activation.LEAKY, 0.1),
    Activation(activation.TABLE, -8.0, 50.0, TABLE),
    Activation(activation.SILU, -8.0, 50.0, TABLE),
    Activation(activation.SOFTPLUS, 0.0, 50.0, TABLE),
]
TWO, ONE = (Grid(0, 1, 2), Grid(1, 0, 2)), (Grid(2, 2, 4),)
# name: input, weight, places
CASES = {
    "rows": ((2, 5, 19), (23, 19), Places()),
    "map of rows": ((2, 3, 5, 19), (40, 19), Places()),
    "row convolution": ((1, 33, 19), (7, 19, 1, 1), Places()),
    "convolution": ((2, 9, 7, 5), (33, 9, 3, 3), Places(1, 3, 1)),
    "dilated": ((1, 9, 7, 5), (5, 9, 3, 3), Places(1, 3, 2, 2)),
    "one by one": ((2, 40, 3, 5), (9, 40, 1, 1), Places(1)),
    "depthwise": ((2, 35, 7, 5), (35, 1, 3, 3), Places(1, 3, 1, depthwise=True)),
    "checkerboard": ((2, 9, 4, 8), (33, 9, 3, 3), Places(1, 3, 1, grids=TWO)),
    "a quarter": ((1, 9, 8, 6), (7, 9, 3, 3), Places(1, 3, 1, grids=(Grid(1, 0, 2),))),
    "at some positions": ((2, 9, 8, 8), (6, 9, 1, 1), Places(1, grids=ONE)),
    "at every second": ((1, 9, 8, 8), (6, 9, 1, 1), Places(1, grids=TWO)),
    "patches": ((2, 3, 8, 13), (5, 3, 4, 4), Places(1, 4, 0, 1, 4)),
    "nothing": ((0, 9, 8, 8), (6, 9, 3, 3), Places(1, 3, 1)),
    "no rows": ((2, 0, 9), (6, 9), Places()),
}


def operands(name, act, *, more):
    """Those of a product: with all that there may be, if there is ``more``."""
    shape, of_weight, where = CASES[name]
    x, weight, out = some(*shape, scale=9.0), integers(*of_weight), of_weight[0]
    if where.channel == 1:
        x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
    bias = some(out, seed=2) if more else torch.zeros(1)
    given = [x, weight, some(out, seed=1).abs() + 0.01, bias, (11.3, 100.0), where]
    if not more or where.depthwise:
        return [*given, None, None, act, None]
    size = places.out_shape(x, out, where)
    plus = some(*size[:-1], 2 * out, seed=4)[..., ::2]  # not dense in memory
    plus = plus if where.of_rows else plus.permute(0, 3, 1, 2)
    times = None if where.side > 1 else torch.cat([x, x], where.channel).chunk(2, where.channel)[1]
    affine = some(1, out, seed=6), some(shape[0], out, seed=7)
    return [*given, times, (affine[0].expand_as(affine[1]).contiguous(), affine[1]), act, plus]


@pytest.mark.parametrize("more", [False, True], ids=["alone", "with all"])
@pytest.mark.parametrize("name", CASES)
def test_cpu_matches_reference(name, more):
    for act in ACTIVATIONS:
        expected = definition.product(*operands(name, act, more=more))
        found = cpu.product(*operands(name, act, more=more))
        assert torch.equal(found, expected)
        assert torch.equal(product(*operands(name, act, more=more)), expected)


@pytest.mark.parametrize("more", [False, True], ids=["alone", "with all"])
@pytest.mark.parametrize("name", ["rows", "map of rows", "no rows", "one by one"])
@pytest.mark.parametrize("most", [127.0, 128.0, 2047.0])
def test_digits_give_the_same(name, more, most):
    count = 1 if most == 127 else 2
    for act in ACTIVATIONS:
        operands_of_one = operands(name, act, more=more)
        operands_of_one[4] = 60.0, most
        x, weight, multiplier, bias, levels, where, times, affine, act, plus = operands_of_one
        digits = passes.digits(x, *levels, where.channel, times)
        whole = x if times is None else x * times
        assert torch.equal(digits, reference.to_digits(whole, *levels))
        assert len(digits) == count * len(x)
        sums = places.sums(digits.float(), weight, where)
        zero = weight.flatten(1).sum(dim=1) * reference.DIGIT_ZERO
        found = passes.finish(
            sums, multiplier, bias, where.channel, digits=count, zero=zero,
            affine=affine, act=act, plus=plus,
        )  # fmt: skip
        assert torch.equal(found, definition.product(*operands_of_one))


@pytest.mark.parametrize("act", ACTIVATIONS[2:])
def test_nan_reads_an_end_of_a_table(act):
    """And nothing beyond it, which would end the process."""
    nan, one = torch.full((1, 5, 19), torch.nan), torch.ones(23)
    found = cpu.product(nan, integers(23, 19), one, one, (1.0, 9.0), Places(), act=act)
    assert found.shape == (1, 5, 23)


def test_what_is_not_rounded():
    sums, plus = integers(2, 6, 3, 5), some(2, 6, 3, 5)
    multiplier, bias = torch.rand(6), torch.rand(6)
    found = sums * multiplier[:, None, None] + bias[:, None, None]
    expected = plus + torch.nn.functional.leaky_relu(found, 0.1)
    around = {"rounded": False, "act": ACTIVATIONS[1], "plus": plus}
    assert torch.allclose(passes.finish(sums, multiplier, bias, 1, **around), expected)


def directed_operands(act):
    x = some(2, 3, 5, 4, 11, scale=9.0)[..., :6]
    return x, integers(4, 6, 37), some(4, 37, seed=1).abs(), some(4, 37, seed=2), (11.3, 100.0), act


TRITON_CHECK = """
import torch
from test_fixed_product import ACTIVATIONS, CASES, definition, directed_operands, operands
from mambaic_kernels.fixed_product import triton
empty = torch.empty
torch.empty = lambda *a, **k: empty(*a, **k).fill_(torch.nan)  # unwritten places show
for number, name in enumerate(CASES):
    for more in (False, True):
        for act in (ACTIVATIONS if name == "rows" else [None, ACTIVATIONS[1 + number % 4]]):
            expected = definition.product(*operands(name, act, more=more))
            found = triton.product(*operands(name, act, more=more))
            assert torch.equal(found, expected), (name, more, act)
for act in ACTIVATIONS[2:]:
    expected = definition.directed(*directed_operands(act))
    assert torch.equal(triton.directed(*directed_operands(act)), expected), act
print("parity holds")
"""


def test_triton_equals_the_reference():
    assert_parity(TRITON_CHECK)
