"""The Triton kernels go through the real compiler, which the interpreter does not: to machine code
of a named GPU, on a machine that may have none."""

from __future__ import annotations

import os
import re

import pytest

triton = pytest.importorskip("triton")

# arguments that are numbers in float32; others are integers, the first ones pointers
NUMBERS = {"a", "b", "end", "per_fine", "most_fine", "fine", "per_coarse", "most_coarse", "coarse"}
NUMBERS |= {"eps", "per_unit", "per_step", "parts", "most", "low", "least", "scale"}
NUMBERS |= {"exp_low", "exp_per_unit", "exp_end"}
NUMBERS |= {f"{kind}_{of}" for kind in ("per", "most") for of in "qkv"}
TARGETS = [80, 90, 120]  # A100, H100, RTX 5090

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("TRITON_INTERPRET") == "1", reason="triton only interprets here"
    ),
    pytest.mark.parametrize("capability", TARGETS),
]


def compiled(kernel, pointers, constants, capability, options=None, **types):
    """``types`` of arguments where they are not as above."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {
        name: "*fp32" if index < pointers else "fp32" if name in NUMBERS else "i32"
        for index, name in enumerate(kernel.arg_names)
    }
    signature |= types | dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert made.asm["cubin"]
    return made


@pytest.mark.parametrize(
    ("d_state", "reset"), [(4, True), (16, False)], ids=["preset s", "preset paper"]
)
def test_kernels_compile_for_a_gpu(d_state, reset, capability):
    import torch

    import mambaic_kernels.scan.triton as kernels

    dt, A = torch.empty(1, 8 * 8, 4, 160), torch.empty(4, d_state, 160)
    plan = kernels._Plan(dt[:, :, 0], dt, A, (8, 8), reset)
    for first in (True, False):  # the passes of a sequence of several chunks
        forward = {**plan.scan_constants, "HAS_START": not first, "WRITE": not first}
        backward = {**plan.scan_constants, "HAS_CARRY": not first, "WRITE": not first}
        carry = {**plan.constants, "REVERSE": not first}
        compiled(kernels._scan_fwd_kernel, 9, forward, capability)
        compiled(kernels._scan_bwd_kernel, 16, backward, capability)
        compiled(kernels._carry_kernel, 4, carry, capability)


def test_search_through_the_trellis_compiles_for_a_gpu(capability):
    import mambaic_kernels.tcq.triton as kernels

    block, long = {"BLOCK": kernels.BLOCK}, {"index": "*i64", "weight": "fp32"}
    bytes_ = {"decisions": "*i8", "path": "*i8"}
    compiled(kernels._cost_kernel, 4, block, capability, **long)
    compiled(kernels._path_kernel, 3, {"CH": kernels.CHUNK}, capability, **bytes_)
    found = {"path": "*i8", "symbols": "*i64", "odds": "*i64"}
    compiled(kernels._symbol_kernel, 6, block, capability, **long, **found)


@pytest.mark.parametrize("d_state", [4, 16])
def test_the_fixed_point_scan_compiles_to_operations_that_are_not_fused(d_state, capability):
    import mambaic_kernels.fixed_scan.triton as kernels

    scan = {"K": 4, "N": d_state, "BD": kernels.BLOCK, "reset": True}
    merge = {"K": 4, "SKIP": True, "BLOCK": kernels.MERGED}
    for made in (
        compiled(kernels._scan_kernel, 7, scan, capability, kernels.EXACT, parts="i32"),
        compiled(kernels._merge_kernel, 4, merge, capability, kernels.EXACT),
    ):
        machine_code = made.asm["sass"]
        assert "FADD" in machine_code
        assert "FFMA" not in machine_code
        assert not re.search(r"F(ADD|MUL)\.FTZ", machine_code)  # denormals are kept


def test_fixed_point_operations_compile_to_what_ieee_defines(capability):
    import mambaic_kernels.fixed_point.triton as kernels
    import mambaic_kernels.sub_groups.triton as sub_groups

    for kernel, pointers, constants in (
        *((kernels._map_kernel, 3, {"KIND": kind, "BLOCK": kernels.BLOCK}) for kind in range(5)),
        (kernels._feature_kernel, 3, {"BLOCK": kernels.BLOCK}),
        (kernels._norm_kernel, 4, {"BLOCK": 256}),
        (sub_groups._normalised_kernel, 8, {"BLOCK": sub_groups.BLOCK}),
        (sub_groups._moved_kernel, 5, {"BLOCK": sub_groups.BLOCK}),
    ):
        made = compiled(kernel, pointers, constants, capability, kernels.EXACT)
        assert not re.search(r"fma|approx|\.ftz|div\.full", made.asm["ptx"])


@pytest.mark.parametrize(("size", "act"), [(32, 3), pytest.param(64, 4, marks=pytest.mark.slow)])
def test_products_fuse_nothing_but_sums_of_integers(size, act, capability):
    """Of which there is a product and an addition for every position, channel and input."""
    import mambaic_kernels.fixed_product.triton as kernels

    constants = {
        "GRIDS": 2, "SIDE": 3, "DILATION": 1, "TIMES": True, "AFFINE": True, "ACT": act,
        "PLUS": True, "BM": size, "BN": size, "BK": kernels.INPUTS,
    }  # fmt: skip
    made = compiled(kernels._product_kernel, 10, constants, capability, kernels.EXACT)
    code = made.asm["ptx"]
    pairs = len(re.findall(r"fma\.rn\.f32x2", code))  # two at once
    assert len(re.findall(r"fma", code)) + pairs == size * size * kernels.INPUTS // (4 * 32)
    assert not re.search(r"approx|\.ftz|div\.full|mma", code)


def test_depthwise_products_and_attention_compile(capability):
    import mambaic_kernels.fixed_attention.triton as attention
    import mambaic_kernels.fixed_product.triton as products

    rows, columns = products.DEPTHWISE_BLOCK
    constants = {"SIDE": 3, "DILATION": 1, "ACT": 3, "BM": rows, "BN": columns}
    code = compiled(products._depthwise_kernel, 6, constants, capability, products.EXACT).asm["ptx"]
    assert not re.search(r"fma|approx|\.ftz|div\.full", code)
    constants = {"SIDE": 8, "BS": 64, "BC": 32}
    made = compiled(
        attention._attention_kernel, 5, constants, capability, attention.EXACT, offset="*i64"
    )
    code = made.asm["ptx"]
    assert len(re.findall(r"fma", code)) == 2 * 64 * 64 * 32 // (4 * 32)
    assert not re.search(r"approx|\.ftz|div\.full|mma", code)


def test_kernels_around_the_walk_compile_for_a_gpu(capability):
    import mambaic_kernels.coding_order.triton as coding_order
    import mambaic_kernels.filter_maps.triton as filter_maps

    grids = {"GRIDS": 2, "BLOCK": coding_order.BLOCK}
    exact, wide = coding_order.EXACT, {"scales": "*fp64"}
    indices = {"BLOCK": coding_order.BLOCK}
    compiled(coding_order._indices_kernel, 3, indices, capability, exact, out="*i16", **wide)
    compiled(coding_order._residuals_kernel, 5, grids, capability, exact, out="*fp64", **wide)
    errors = {"GRIDS": 2, "BM": coding_order.ROWS, "BK": 16}
    compiled(coding_order._errors_kernel, 3, errors, capability)
    maps = {"RINGS": len(filter_maps.RINGS), "BLOCK": filter_maps.BLOCK}
    compiled(filter_maps._maps_kernel, 5, maps, capability, rings="*i32")
