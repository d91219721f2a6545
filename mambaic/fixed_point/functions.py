"""Functions by tables: of what is on the grid or in few steps of the argument."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from mambaic.nn.functions import NormalisedResiduals, signed_and_plain
from mambaic.nn.grid import EXACT, PER_UNIT, few_bits, tabulate, to_grid
from mambaic_kernels.fixed_point import (
    activation,
    feature_levels,
    leaky,
    look_up,
    look_up_octaves,
    silu,
    softplus,
)
from mambaic_kernels.fixed_point.activation import Activation
from mambaic_kernels.fixed_point.cpu import feature_digits
from mambaic_kernels.sub_groups import Tables, moved, normalised


class Table(nn.Module):
    """A function on [low, high] in steps of 1 / per_unit; beyond, its value at the end."""

    KIND = activation.TABLE

    values: Tensor

    def __init__(self, values: Tensor, low: float, per_unit: float) -> None:
        super().__init__()
        self.register_buffer("values", values, persistent=False)
        self.low, self.per_unit = low, per_unit

    @property
    def activation(self) -> Activation:
        """For kernels that apply it to what they make."""
        return Activation(self.KIND, self.low, self.per_unit, self.values)

    def forward(self, x: Tensor) -> Tensor:
        return look_up(x, self.values, self.low, self.per_unit)


class FixedExp(Table):
    """On the grid, where it is exact up to TABLE_BITS."""

    LOW, HIGH = -10.0, 12.0

    def __init__(self) -> None:
        super().__init__(tabulate(np.exp, self.LOW, self.HIGH, PER_UNIT), self.LOW, PER_UNIT)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def _softplus_of_minus(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(-x))


class FixedSigmoid(Table):
    def __init__(self) -> None:
        super().__init__(tabulate(_sigmoid, -16.0, 16.0, 256.0), -16.0, 256.0)


class FixedTanh(Table):
    def __init__(self) -> None:
        super().__init__(tabulate(np.tanh, -8.0, 8.0, 512.0), -8.0, 512.0)


class FixedSiLU(FixedSigmoid):
    KIND = activation.SILU

    def forward(self, x: Tensor) -> Tensor:
        return silu(x, self.values, self.low, self.per_unit)


class FixedSoftplus(Table):
    """max(x, 0) + log(1 + exp(-|x|)): only the second term is a table."""

    KIND = activation.SOFTPLUS

    def __init__(self) -> None:
        values = tabulate(_softplus_of_minus, 0.0, 16.0, 256.0)
        super().__init__(torch.round(values * 4096) / 4096, 0.0, 256.0)

    def forward(self, x: Tensor) -> Tensor:
        return softplus(x, self.values, self.per_unit)


class FixedLeakyReLU(nn.Module):
    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    @property
    def activation(self) -> Activation:
        return Activation(activation.LEAKY, self.slope)

    def forward(self, x: Tensor) -> Tensor:
        return leaky(x, self.slope)


class FixedGrid(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return to_grid(x)


class FixedEnergy(nn.Module):
    """Eighths, so bounded that 75 of them sum to less than EXACT."""

    MOST = EXACT // 75

    def forward(self, x: Tensor) -> Tensor:
        return (x * 8.0).round_().clamp_(-self.MOST, self.MOST).mul_(0.125)


class OctaveTable(nn.Module):
    """A function of v >= 1, read by the leading bits of v: PER_OCTAVE cells from every power of two
    to the next, up to 2 ** OCTAVES."""

    PER_OCTAVE, OCTAVES = 256, 44
    SHIFT, FIRST = 23 - 8, 127 << 8  # of the bits of a float32, of those of 1.0

    values: Tensor

    def __init__(self, function: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__()
        self.register_buffer("values", _of_cells(function), persistent=False)

    @classmethod
    def centres(cls) -> np.ndarray:
        """What every cell stands for; the first one for its lower end, 1."""
        cell = np.arange(cls.PER_OCTAVE * cls.OCTAVES)
        within = (cell % cls.PER_OCTAVE + 0.5) / cls.PER_OCTAVE
        found = np.ldexp(1.0 + within, cell // cls.PER_OCTAVE)
        found[0] = 1.0
        return found

    def forward(self, v: Tensor) -> Tensor:
        return look_up_octaves(v, self.values, self.SHIFT, self.FIRST)


@lru_cache(maxsize=8)
def _of_cells(function: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    return torch.from_numpy(few_bits(function(OctaveTable.centres())))


class FixedLog1p(OctaveTable):
    def __init__(self) -> None:
        super().__init__(np.log)

    def forward(self, v: Tensor) -> Tensor:
        return super().forward(v + 1.0)


def _asinh_of_rest(v: np.ndarray) -> np.ndarray:
    return np.arcsinh(v - 1.0)


class FixedLogFeatures(OctaveTable):
    """``LogFeatures``."""

    def __init__(self) -> None:
        super().__init__(_asinh_of_rest)

    def forward(self, y: Tensor) -> Tensor:
        return signed_and_plain(super().forward(y.abs().add_(1.0)), y)

    def levels(self, y: Tensor, per_step: float, most: float) -> Tensor:
        """In steps of 1 / per_step."""
        return feature_levels(y, self.values, self.SHIFT, self.FIRST, per_step, most)

    def digits(self, y: Tensor, per_step: float, most: float) -> Tensor:
        """The digits of ``levels``, on a CPU."""
        return feature_digits(y, self.values, self.SHIFT, self.FIRST, per_step, most)


class FixedNormalise(nn.Module):
    """``Normalise``."""

    def __init__(self, bounds: tuple[float, float]) -> None:
        super().__init__()
        self.bounds = bounds
        self.exp, self.log, self.sigmoid = FixedExp(), FixedLog1p(), FixedSigmoid()

    @property
    def tables(self) -> Tables:
        octaves = OctaveTable.SHIFT, OctaveTable.FIRST
        exp, sigmoid = self.exp.activation, self.sigmoid.activation
        return Tables(exp, self.log.values, *octaves, sigmoid, self.bounds)

    def forward(self, coded: Tensor, mean: Tensor, log_scale: Tensor) -> NormalisedResiduals:
        return NormalisedResiduals(*normalised(coded, mean, log_scale, self.tables))


class FixedMove(FixedNormalise):
    """``Move``."""

    def forward(self, mean: Tensor, log_scale: Tensor, by: Tensor) -> Tensor:  # type: ignore[override]
        return moved(mean, log_scale, by, self.tables)
