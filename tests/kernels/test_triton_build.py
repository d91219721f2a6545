"""The Triton kernels go through the real compiler, which the interpreter does not: to machine code
of a named GPU, on a machine that may have none."""

from __future__ import annotations

import os
import re

import pytest

triton = pytest.importorskip("triton")

SIZES = {"n", "height", "width", "channels", "chunks", "positions", "batch", "lines_max", "count"}
SIZES |= {"levels", "last", "shift", "first", "stride", "heads", "queries", "keys"}
SIZES |= {"of_picture", "of_head", "of_query", "of_key"}
NUMBERS = {"a", "b", "end", "per_fine", "most_fine", "fine", "per_coarse", "most_coarse", "coarse"}
NUMBERS |= {"eps", "per_unit", "per_step", "parts"}
BYTES = {"decisions", "path"}
LONG = {"index", "symbols", "odds"}
TARGETS = [80, 90, 120]  # A100, H100, RTX 5090


def compiled(kernel, constants, capability, options=None, numbers=frozenset()):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = dict.fromkeys(SIZES, "i32") | dict.fromkeys(BYTES, "*i8")
    types |= dict.fromkeys(LONG, "*i64")
    types |= dict.fromkeys(numbers, "fp32") | dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, "*fp32") for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="triton only interprets here")
@pytest.mark.parametrize("capability", TARGETS)
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
        for kernel, constants in (
            (kernels._scan_fwd_kernel, forward),
            (kernels._scan_bwd_kernel, backward),
            (kernels._carry_kernel, carry),
        ):
            assert compiled(kernel, constants, capability).asm["cubin"]


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="triton only interprets here")
@pytest.mark.parametrize("capability", TARGETS)
def test_search_through_the_trellis_compiles_for_a_gpu(capability):
    import mambaic_kernels.tcq.triton as kernels

    block = {"BLOCK": kernels.BLOCK}
    for kernel, constants in (
        (kernels._cost_kernel, block),
        (kernels._path_kernel, {"CH": kernels.CHUNK}),
        (kernels._symbol_kernel, block),
    ):
        assert compiled(kernel, constants, capability, numbers={"weight"}).asm["cubin"]


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="triton only interprets here")
@pytest.mark.parametrize("capability", TARGETS)
@pytest.mark.parametrize("d_state", [4, 16])
def test_the_fixed_point_scan_compiles_to_operations_that_are_not_fused(d_state, capability):
    import mambaic_kernels.fixed_scan.triton as kernels

    for kernel, constants in (
        (kernels._scan_kernel, {"N": d_state, "BD": kernels.BLOCK, "reset": True}),
        (kernels._merge_kernel, {"BLOCK": kernels.MERGED}),
    ):
        made = compiled(kernel, {"K": 4, **constants}, capability, kernels.EXACT)
        assert made.asm["cubin"]
        machine_code = made.asm["sass"]
        assert "FADD" in machine_code
        assert "FFMA" not in machine_code
        assert not re.search(r"F(ADD|MUL)\.FTZ", machine_code)  # denormals are kept


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="triton only interprets here")
@pytest.mark.parametrize("capability", TARGETS)
def test_fixed_point_operations_compile_to_what_ieee_defines(capability):
    import mambaic_kernels.fixed_point.triton as kernels

    for kernel, constants in (
        *((kernels._map_kernel, {"KIND": kind, "BLOCK": kernels.BLOCK}) for kind in range(5)),
        (kernels._rescale_kernel, {"BLOCK": kernels.BLOCK}),
        (kernels._norm_kernel, {"BLOCK": 256}),
        (kernels._shares_kernel, {"BLOCK": 64}),
    ):
        made = compiled(kernel, constants, capability, kernels.EXACT, NUMBERS)
        assert made.asm["cubin"]
        code = made.asm["ptx"]
        assert not re.search(r"fma|approx|\.ftz|div\.full", code)
