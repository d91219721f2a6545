"""By numba: one pass over memory each."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mambaic_kernels.fixed_point.reference import PER_UNIT, UNIT
from mambaic_kernels.fixed_point.rows import spread
from mambaic_kernels.simd import exact_jit, f32, float_bits
from mambaic_kernels.sub_groups.reference import (
    DEVIATIONS_MAX,
    LEAST_VARIANCE,
    MAGNITUDES,
    Tables,
)

_PER_UNIT, _UNIT, _MOST, _LEAST = f32(PER_UNIT), f32(UNIT), f32(DEVIATIONS_MAX), f32(LEAST_VARIANCE)


@exact_jit()
def _at(x, values, low, per_unit):  # type: ignore[no-untyped-def]
    """The value of a table."""
    place = min(max(f32(0), np.rint((x - low) * per_unit)), f32(len(values) - 1))
    return values[np.uint32(np.int32(place))]


@exact_jit(nogil=True)
def _normalised(coded, mean, log_scale, to, features, exp, log, sigmoid, numbers, octaves, first, last):  # type: ignore[no-untyped-def] # fmt: skip # noqa: E501
    channels = coded.shape[1]
    exp_low, exp_per_unit, sigmoid_low, sigmoid_per_unit, least, most = numbers
    shift, start = octaves
    end = np.int32(len(log) - 1)
    for row in range(first, last):
        for c in range(channels):
            own = log_scale[row, c]
            bounded = min(max(own, least), most)
            residual = coded[row, c] - mean[row, c]
            scale = _at(bounded, exp, exp_low, exp_per_unit)
            deviation = np.rint(residual / scale * _PER_UNIT) * _UNIT
            deviation = min(max(deviation, -_MOST), _MOST)
            variance = _at(f32(2) * bounded, exp, exp_low, exp_per_unit) + _LEAST
            ratio = np.rint(residual * residual / variance * _PER_UNIT) * _UNIT + f32(1)
            cell = min(max((float_bits(ratio) >> shift) - start, np.int32(0)), end)
            to[row, c] = deviation
            features[row, c] = log[np.uint32(cell)]
            features[row, channels + c] = _at(f32(2) * own, sigmoid, sigmoid_low, sigmoid_per_unit)
            features[row, 2 * channels + c] = abs(deviation)


@exact_jit(nogil=True)
def _moved(mean, log_scale, by, out, exp, numbers, first, last):  # type: ignore[no-untyped-def]
    low, per_unit, least, most = numbers
    for row in range(first, last):
        for c in range(mean.shape[1]):
            scale = _at(min(max(log_scale[row, c], least), most), exp, low, per_unit)
            out[row, c] = mean[row, c] + np.rint(scale * by[row, c] * _PER_UNIT) * _UNIT


def _rows(x: Tensor) -> np.ndarray:
    return np.asarray(x.reshape(-1, x.shape[-1]).numpy())


def normalised(
    coded: Tensor, mean: Tensor, log_scale: Tensor, tables: Tables
) -> tuple[Tensor, Tensor]:
    """See ``mambaic_kernels.sub_groups.normalised``."""
    channels = coded.shape[-1]
    deviation = coded.new_empty(coded.shape)
    features = coded.new_empty(*coded.shape[:-1], MAGNITUDES * channels)
    operands = [_rows(t) for t in (coded, mean, log_scale, deviation, features)]
    exp, sigmoid = tables.exp, tables.sigmoid
    numbers = (exp.low, exp.per_unit, sigmoid.low, sigmoid.per_unit, *tables.bounds)
    constants = (
        exp.table.numpy(), tables.log.numpy(), sigmoid.table.numpy(),
        tuple(map(f32, numbers)), (np.int32(tables.shift), np.int32(tables.first)),
    )  # fmt: skip
    spread(lambda a, b: _normalised(*operands, *constants, a, b), len(operands[0]), channels)
    return deviation, features


def moved(mean: Tensor, log_scale: Tensor, by: Tensor, tables: Tables) -> Tensor:
    """See ``mambaic_kernels.sub_groups.moved``."""
    out = torch.empty(mean.shape, dtype=mean.dtype)
    operands = [_rows(t) for t in (mean, log_scale, by, out)]
    numbers = tuple(map(f32, (tables.exp.low, tables.exp.per_unit, *tables.bounds)))
    exp = tables.exp.table.numpy()
    spread(lambda a, b: _moved(*operands, exp, numbers, a, b), len(operands[0]), mean.shape[-1])
    return out
