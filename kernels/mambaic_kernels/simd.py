"""Building blocks of the numba kernels: compilation, functions that LLVM vectorises, threads.

``exp``: 2**x by a polynomial whose exponent is set through the float's bits; relative error under
3e-7, and of |x| times 1e-15 in float64. ``softplus``: by the series of the inverse hyperbolic
tangent, the same errors. ``scaled_erfc``: a Chebyshev fit of erfc(z) exp(z**2) in
1 / (1 + z / 2), relative error under 2e-7 for every z >= 0; in float32 alone, for training.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from mambaic_kernels.kernel_cache import enable_cache

LANES = 16  # blocks are multiples of this many elements

f32 = np.float32


def jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """njit, cached on disk (``kernel_cache``)."""

    def wrap(function: Callable[..., Any]) -> Any:
        return enable_cache(numba.njit(fastmath=True, error_model="numpy", **options)(function))

    return wrap


@intrinsic
def _float_of_bits(typingctx: Any, bits: Any) -> Any:
    """The float whose binary form is the given integer of 32 or 64 bits."""
    single = bits == types.int32

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType() if single else ir.DoubleType())

    return (types.float32 if single else types.float64)(bits), codegen


@jit(inline="always")
def exp32(x):  # type: ignore[no-untyped-def]
    t = min(max(x * f32(1.4426950408889634), f32(-126.0)), f32(126.0))
    whole = np.floor(t + f32(0.5))
    r = (t - whole) * f32(0.6931471805599453)
    p = f32(0.008333334) + r * f32(0.0013888889)
    p = f32(0.16666667) + r * (f32(0.041666668) + r * p)
    p = f32(1.0) + r * (f32(1.0) + r * (f32(0.5) + r * p))
    bits = np.int32((np.int32(whole) + 127) << 23)
    return p * _float_of_bits(bits)  # type: ignore[call-arg]


@jit(inline="always")
def exp64(x):  # type: ignore[no-untyped-def]
    t = min(max(x * 1.4426950408889634, -1022.0), 1022.0)
    whole = np.floor(t + 0.5)
    r = (t - whole) * 0.6931471805599453
    p = 1.0 / 39916800 + r * (1.0 / 479001600)
    p = 1.0 / 362880 + r * (1.0 / 3628800 + r * p)
    p = 1.0 / 5040 + r * (1.0 / 40320 + r * p)
    p = 1.0 / 120 + r * (1.0 / 720 + r * p)
    p = 1.0 / 6 + r * (1.0 / 24 + r * p)
    p = 1.0 + r * (1.0 + r * (0.5 + r * p))
    # by way of int32, whose conversion is the one that every SIMD unit has
    bits = np.int64((np.int64(np.int32(whole)) + 1023) << 52)
    return p * _float_of_bits(bits)  # type: ignore[call-arg]


# log1p(y) = 2 atanh(y / (2 + y)); y = exp(-|x|) <= 1, so the series' argument is at most 1/3


@jit(inline="always")
def softplus32(x):  # type: ignore[no-untyped-def]
    y = exp32(-abs(x))
    s = y / (f32(2.0) + y)
    q = s * s
    p = f32(1 / 9) + q * (f32(1 / 11) + q * f32(1 / 13))
    p = f32(1.0) + q * (f32(1 / 3) + q * (f32(1 / 5) + q * (f32(1 / 7) + q * p)))
    return max(x, f32(0.0)) + f32(2.0) * s * p


@jit(inline="always")
def softplus64(x):  # type: ignore[no-untyped-def]
    y = exp64(-abs(x))
    s = y / (2.0 + y)
    q = s * s
    p = 1 / 27 + q * (1 / 29 + q * (1 / 31 + q * (1 / 33)))
    p = 1 / 19 + q * (1 / 21 + q * (1 / 23 + q * (1 / 25 + q * p)))
    p = 1 / 11 + q * (1 / 13 + q * (1 / 15 + q * (1 / 17 + q * p)))
    p = 1.0 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * p))))
    return max(x, 0.0) + 2.0 * s * p


@jit(inline="always")
def scaled_erfc(z):  # type: ignore[no-untyped-def]
    t = f32(1.0) / (f32(1.0) + f32(0.5) * z)
    p = f32(0.0653309961) - t * f32(0.0256889674)
    p = f32(-0.19639277) + t * (f32(0.028879432) + t * p)
    p = f32(0.0588173) + t * (f32(0.078035535) + t * p)
    p = f32(0.246525122) + t * (f32(0.18029476) + t * p)
    p = f32(0.282094751) + t * (f32(0.282103688) + t * p)
    return t * p


def exp(x):  # type: ignore[no-untyped-def]
    """e**x in the type of x; in compiled code alone."""
    raise NotImplementedError


@overload(exp, inline="always")
def _exp_of_type(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: exp32(x)
    return lambda x: exp64(x)


def softplus(x):  # type: ignore[no-untyped-def]
    """log(1 + e**x) in the type of x; in compiled code alone."""
    raise NotImplementedError


@overload(softplus, inline="always")
def _softplus_of_type(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: softplus32(x)
    return lambda x: softplus64(x)


_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def _threads() -> ThreadPoolExecutor:
    """Worker threads of this process."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
        return _pool


def _after_fork() -> None:
    """In a forked child, where the threads of the pool, and one that held the lock, are gone."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


def cut(width: int, threads: int, longest: int) -> list[tuple[int, int]]:
    """Ranges of 0..width to work on: enough for all threads, none longer than ``longest``."""
    share = -(-width // threads)
    size = min(longest, max(LANES, -(-share // LANES) * LANES))
    return [(start, min(start + size, width)) for start in range(0, width, size)]


def run(task: Callable[[int, int, int], None], blocks: list[tuple[int, int]]) -> None:
    """task(index, first, last) for every block, over as many threads as torch uses."""
    threads = min(torch.get_num_threads(), len(blocks))
    if threads <= 1:
        for index, (first, last) in enumerate(blocks):
            task(index, first, last)
        return
    lanes = [list(range(lane, len(blocks), threads)) for lane in range(threads)]

    def work(lane: list[int]) -> None:
        for index in lane:
            task(index, *blocks[index])

    futures = [_threads().submit(work, lane) for lane in lanes[1:]]
    work(lanes[0])
    for future in futures:
        future.result()
