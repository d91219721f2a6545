"""Post-filter taps by numba, over pieces of rows that stay in the L1 cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from mambaic_kernels.filter_taps.scene import UNCLIPPED, Lists, Scene
from mambaic_kernels.simd import f32, jit, run

PIECE = 512  # pixels of a row that are worked on at a time
BLOCK = 64  # pieces, of one thread: a call of compiled code takes as long as several of them

Array = np.ndarray


class _Recipe(NamedTuple):
    """Lists of taps as arrays: where the maps of each begin and end; of every map, and where its
    offsets and factors begin and end."""

    list: Array  # (lists + 1,)
    source: Array
    clip: Array
    share: Array
    clipped: Array
    offset: Array  # (maps + 1,)
    factor: Array  # (maps + 1,)
    rows: Array  # of all offsets
    columns: Array
    factors: Array  # of all taps


class _Places(NamedTuple):
    """Where maps of a scene lie: addresses of their first pixels, and bytes from row to row."""

    first: Array
    line: Array


@lru_cache(maxsize=16)
def _recipe(lists: Lists) -> _Recipe:
    taps = [tap for of in lists for tap in of]
    maps = [tap.map for tap in taps]
    offsets = [offset for of in maps for offset in of.offsets]
    return _Recipe(
        list=np.cumsum([0, *map(len, lists)]),
        source=np.array([of.source for of in maps]),
        clip=np.array([of.clip for of in maps], f32),
        share=np.array([of.share for of in maps], f32),
        clipped=np.array([of.clip < UNCLIPPED for of in maps]),
        offset=np.cumsum([0, *(len(of.offsets) for of in maps)]),
        factor=np.cumsum([0, *(len(tap.factors) for tap in taps)]),
        rows=np.array([dy for dy, _ in offsets], np.int64),
        columns=np.array([dx for _, dx in offsets], np.int64),
        factors=np.array([factor for tap in taps for factor in tap.factors]),
    )


def _places(maps: Sequence[Tensor]) -> _Places:
    """Of maps (H, W) whose rows are contiguous."""
    contiguous = all(of.stride(1) == 1 or of.shape[1] == 1 for of in maps)
    if not contiguous or any(of.dtype != torch.float32 for of in maps):
        raise ValueError("maps of a scene must be float32, with contiguous rows")
    return _Places(
        np.array([of.data_ptr() for of in maps], np.int64),
        np.array([4 * of.stride(0) for of in maps], np.int64),
    )


@intrinsic
def _pointer(typingctx, address):  # type: ignore[no-untyped-def]
    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.FloatType().as_pointer())

    return types.CPointer(types.float32)(address), codegen


@jit(inline="always")
def _piece(places, index, y, x, size):  # type: ignore[no-untyped-def]
    """``size`` pixels of a map, from (y, x) on."""
    at = places.first[index] + y * places.line[index] + 4 * x
    return numba.carray(_pointer(at), (size,))  # type: ignore[call-arg]


@jit(inline="always")
def _clamped(x, limit, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] = min(max(x[i], -limit[i]), limit[i])


@jit(inline="always")
def _add_difference(x, own, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] += x[i] - own[i]


@jit(inline="always")
def _add_clamped(x, own, limit, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] += min(max(x[i] - own[i], -limit[i]), limit[i])


@jit(inline="always")
def _add_times(x, by, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] += x[i] * by


@jit(inline="always")
def _add_product(x, by, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] += x[i] * by[i]


@jit(inline="always")
def _product(x, by, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] = x[i] * by[i]


@jit(inline="always")
def _limits(deviation, clip, share, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] = clip + share * deviation[i]


@jit(inline="always")
def _value(recipe, m, planes, maps, deviation, y, x, limit, out):  # type: ignore[no-untyped-def]
    """Map ``m`` of the pixels of ``out``: written there, or where it lies already."""
    source, size = recipe.source[m], len(out)
    begin, end = recipe.offset[m], recipe.offset[m + 1]
    clipped = recipe.clipped[m]
    if clipped:
        _limits(_piece(deviation, 0, y, x, size), recipe.clip[m], recipe.share[m], limit)
    if begin == end:
        value = _piece(maps, source, y, x, size)
        if not clipped:
            return value
        _clamped(value, limit, out)
        return out
    out[:] = f32(0)
    own = _piece(planes, source, y, x, size)
    for k in range(begin, end):
        other = _piece(planes, source, y + recipe.rows[k], x + recipe.columns[k], size)
        if clipped:
            _add_clamped(other, own, limit, out)
        else:
            _add_difference(other, own, out)
    return out


@jit(inline="always")
def _at(piece, width):  # type: ignore[no-untyped-def]
    """Row and first column of a piece, and its size, in maps of a width."""
    across = -(-width // PIECE)
    x = piece % across * PIECE
    return piece // across, x, min(PIECE, width - x)


@jit(nogil=True)
def _weighed(recipe, planes, maps, factors, deviation, coefficients, out, first, last):  # type: ignore[no-untyped-def]
    """Pieces first..last of out (lists, H, W)."""
    space = np.empty((3, PIECE), f32)
    for piece in range(first, last):
        y, x, size = _at(piece, out.shape[2])
        limit, value, weight = space[0, :size], space[1, :size], space[2, :size]
        for own in range(len(out)):
            total = out[own, y, x : x + size]
            total[:] = f32(0)
            for m in range(recipe.list[own], recipe.list[own + 1]):
                weight[:] = f32(0)
                for t in range(recipe.factor[m], recipe.factor[m + 1]):
                    factor = _piece(factors, recipe.factors[t], y, x, size)
                    _add_times(factor, coefficients[t], weight)
                found = _value(recipe, m, planes, maps, deviation, y, x, limit, value)
                _add_product(found, weight, total)


@jit(nogil=True)
def _write(recipe, planes, maps, factors, deviation, out, top, first, last):  # type: ignore[no-untyped-def]
    """Pieces first..last of out (taps, rows, W), whose first row is ``top`` of the scene."""
    space = np.empty((2, PIECE), f32)
    for piece in range(first, last):
        row, x, size = _at(piece, out.shape[2])
        y = top + row
        limit, value = space[0, :size], space[1, :size]
        for m in range(len(recipe.source)):
            found = _value(recipe, m, planes, maps, deviation, y, x, limit, value)
            for t in range(recipe.factor[m], recipe.factor[m + 1]):
                factor = _piece(factors, recipe.factors[t], y, x, size)
                _product(found, factor, out[t, row, x : x + size])


def _operands(scene: Scene, lists: Lists) -> tuple[NamedTuple, ...]:
    recipe = _recipe(lists)
    margin = (scene.planes.shape[1] - scene.deviation.shape[0]) // 2
    _check(scene, recipe, margin)
    planes = [plane[margin:, margin:] for plane in scene.planes]
    maps = (planes, scene.maps, scene.factors, [scene.deviation])
    return (recipe, *(_places(of) for of in maps))


def _check(scene: Scene, recipe: _Recipe, margin: int) -> None:
    """Compiled code reads wherever it is told to."""
    shapes = {of.shape for of in (*scene.maps, *scene.factors, scene.deviation)}
    around = np.abs([recipe.rows, recipe.columns]).max(initial=0)
    sources = np.where(np.diff(recipe.offset), len(scene.planes), len(scene.maps))
    known = (recipe.source < sources).all() and (recipe.factors < len(scene.factors)).all()
    if len(shapes) > 1 or around > margin or not known:
        raise ValueError("taps need maps or pixels that the scene does not have")


def _pieces(height: int, width: int) -> list[tuple[int, int]]:
    """Those of ``height`` rows, in blocks."""
    count = height * -(-width // PIECE)
    size = min(BLOCK, -(-count // torch.get_num_threads()))
    return [(first, min(first + size, count)) for first in range(0, count, size)]


def write_taps(scene: Scene, lists: Lists, rows: slice, out: Tensor) -> None:
    """See ``mambaic_kernels.filter_taps.reference``."""
    operands = (*_operands(scene, lists), out.numpy(), rows.start)
    run(lambda _, *block: _write(*operands, *block), _pieces(*out.shape[1:]))


def weighted_sums(scene: Scene, lists: Lists, coefficients: Iterable[Iterable[float]]) -> Tensor:
    """See ``mambaic_kernels.filter_taps.reference``."""
    out = scene.planes.new_empty(len(lists), *scene.deviation.shape)
    every = np.array([value for of in coefficients for value in of], f32)
    operands = (*_operands(scene, lists), every, out.numpy())
    run(lambda _, *block: _weighed(*operands, *block), _pieces(*out.shape[1:]))
    return out
