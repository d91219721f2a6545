"""Building blocks of the numba kernels: compilation, and functions that LLVM vectorises.

In float32 alone. ``exp``: 2**x by a polynomial whose exponent is set through the float's bits;
relative error under 3e-7. ``softplus``: by the series of the inverse hyperbolic tangent, the same
error. ``scaled_erfc``: a Chebyshev fit of erfc(z) exp(z**2) in 1 / (1 + z / 2), relative error
under 2e-7 for every z >= 0, for training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mambaic_kernels.kernel_cache import enable_cache

f32 = np.float32


def jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """njit, cached on disk (``kernel_cache``)."""

    def wrap(function: Callable[..., Any]) -> Any:
        return enable_cache(numba.njit(fastmath=True, error_model="numpy", **options)(function))

    return wrap


def exact_jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """As ``jit``, every operation by itself as IEEE defines it: nothing fused, nothing moved."""

    def wrap(function: Callable[..., Any]) -> Any:
        return enable_cache(numba.njit(error_model="numpy", **options)(function))

    return wrap


@intrinsic
def _float_of_bits(typingctx: Any, bits: Any) -> Any:
    """The float32 whose binary form is the given int32."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(bits), codegen


@intrinsic
def _bits_of_float(typingctx: Any, x: Any) -> Any:
    """The binary form of a float32 as an int32."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(x), codegen


@exact_jit(inline="always")
def float_bits(x):  # type: ignore[no-untyped-def]
    return _bits_of_float(np.float32(x))  # type: ignore[call-arg]


@jit(inline="always")
def exp(x):  # type: ignore[no-untyped-def]
    t = min(max(x * f32(1.4426950408889634), f32(-126.0)), f32(126.0))
    whole = np.floor(t + f32(0.5))
    r = (t - whole) * f32(0.6931471805599453)
    p = f32(0.008333334) + r * f32(0.0013888889)
    p = f32(0.16666667) + r * (f32(0.041666668) + r * p)
    p = f32(1.0) + r * (f32(1.0) + r * (f32(0.5) + r * p))
    bits = np.int32((np.int32(whole) + 127) << 23)
    return p * _float_of_bits(bits)  # type: ignore[call-arg]


# log1p(y) = 2 atanh(y / (2 + y)); y = exp(-|x|) <= 1, so the series' argument is at most 1/3


@jit(inline="always")
def softplus(x):  # type: ignore[no-untyped-def]
    y = exp(-abs(x))
    s = y / (f32(2.0) + y)
    q = s * s
    p = f32(1 / 9) + q * (f32(1 / 11) + q * f32(1 / 13))
    p = f32(1.0) + q * (f32(1 / 3) + q * (f32(1 / 5) + q * (f32(1 / 7) + q * p)))
    return max(x, f32(0.0)) + f32(2.0) * s * p


@jit(inline="always")
def scaled_erfc(z):  # type: ignore[no-untyped-def]
    t = f32(1.0) / (f32(1.0) + f32(0.5) * z)
    p = f32(0.0653309961) - t * f32(0.0256889674)
    p = f32(-0.19639277) + t * (f32(0.028879432) + t * p)
    p = f32(0.0588173) + t * (f32(0.078035535) + t * p)
    p = f32(0.246525122) + t * (f32(0.18029476) + t * p)
    p = f32(0.282094751) + t * (f32(0.282103688) + t * p)
    return t * p
