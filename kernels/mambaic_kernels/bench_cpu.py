"""Benchmarks of kernels for CPUs alone: wavelet, maps of the post-filter, TCQ."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from mambaic_kernels.filter_maps import reference as filters
from mambaic_kernels.filter_maps.constants import MARGIN, RINGS
from mambaic_kernels.tcq import cpu as tcq
from mambaic_kernels.timing import TOLERANCE, bound, copy, seconds, table, with_gradients
from mambaic_kernels.wavelet import reference as wavelet


def bench_wavelet(shape: tuple[int, ...]) -> None:
    """One level of the wavelet on a CPU, there and back, against plain torch."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    check_wavelet(x[:1])

    def fused(x: Tensor) -> Tensor:
        return wavelet.synthesise(wavelet.analyse(x))

    def reference(x: Tensor) -> Tensor:
        return wavelet.synthesise_reference(wavelet.analyse_reference(x))

    rows = []
    for name, function in (("torch", reference), ("cpu", fused)):
        rows.append((f"{name} forward", seconds(bound(function, [x]))))
        both = with_gradients(function, [x])
        rows.append((f"{name} forward + backward", seconds(both)))
    rows.append(("copy", seconds(lambda: copy([x, x]))))
    title = f"wavelet level and inverse (planes, H, W) = {shape}, float32, cpu"
    table(title, 2 * x.numel(), rows, "samples")


def check_wavelet(x: Tensor) -> None:
    """Raise unless both directions agree with the float64 reference."""
    exact = wavelet.analyse_reference(x.double())
    errors = (wavelet.analyse(x) - exact, wavelet.synthesise(exact.float()) - x)
    if not max(float(error.abs().max()) for error in errors) < TOLERANCE:
        raise SystemExit("the wavelet disagrees with the reference")


def bench_filter_maps(height: int, width: int) -> None:
    """Maps of a photograph for the post-filter on a CPU, against plain torch."""
    generator = torch.Generator().manual_seed(0)

    def picture(height: int, width: int) -> list[Tensor]:
        margins = 2 * MARGIN
        x = 0.3 * torch.rand(3, height + margins, width + margins, generator=generator)
        return [x, 0.1 * torch.rand(height, width, generator=generator)]

    small = picture(32, 40)
    exact = filters.filter_maps_reference(*(x.double() for x in small))
    for found, expected in zip(filters.filter_maps(*small), exact, strict=True):
        if not float((found - expected).abs().max()) < TOLERANCE:
            raise SystemExit("the filter's maps disagree with the reference")
    operands = picture(height, width)
    rows = [
        ("torch", seconds(bound(filters.filter_maps_reference, operands))),
        ("cpu", seconds(bound(filters.filter_maps, operands))),
    ]
    title = f"maps of the post-filter (H, W) = {(height, width)}, float32, cpu"
    table(title, len(RINGS) * height * width, rows, "pairs of pixels")


@numba.njit
def _plain_search(x, rates, weight):  # type: ignore[no-untyped-def]
    """The Viterbi algorithm as one would first write it: over states, into the next ones."""
    states = tcq.STATES
    cost, new = np.full(states, np.inf), np.empty(states)
    cost[0] = 0.0
    origin = np.empty((len(x), states), np.int16)
    chosen = np.empty((len(x), states), np.int32)
    branch, symbol = np.empty((2, 2)), np.empty((2, 2), np.int32)
    for i in range(len(x)):
        magnitude = abs(x[i])
        for odd in range(2):
            for parity in range(2):
                half = 0.5 * (magnitude + 0.5 * odd - parity)
                best = max(2 * int(np.floor(half + 0.5)) + parity, parity)
                error = magnitude - best + (0.5 * odd if best else 0.0)
                total = weight * error * error + rates[odd, min(best, rates.shape[1] - 1)]
                zero = weight * magnitude * magnitude + rates[odd, 0]
                if parity == 0 and zero < total:
                    best, total = 0, zero
                branch[odd, parity], symbol[odd, parity] = total, best
        new[:] = np.inf
        for state in range(states):
            odd = state & 1
            for parity in range(2):
                after = (state >> 1) ^ (odd * tcq.FEEDBACK) ^ (parity * tcq.INPUT)
                total = cost[state] + branch[odd, parity]
                if total < new[after]:
                    new[after], origin[i, after] = total, state
                    chosen[i, after] = symbol[odd, parity]
        cost[:] = new
    out = np.empty(len(x), np.int32)
    state = int(np.argmin(cost))
    for i in range(len(x) - 1, -1, -1):
        out[i] = chosen[i, state] if x[i] >= 0 else -chosen[i, state]
        state = origin[i, state]
    return out


def bench_tcq(count: int) -> None:
    """TCQ search of ``count`` Laplacian latents of one scale."""
    x = np.random.default_rng(0).laplace(size=count)
    level = np.zeros(count, dtype=np.int64)
    rates = (1.0 + 1.5 * np.arange(64, dtype=np.float32)) * np.ones((2, 1, 1), np.float32)
    found = tcq.search(x, level, rates, 180.0)
    if np.mean(found != _plain_search(x, rates[:, 0], 180.0)) > 1e-3:  # rounding may decide a tie
        raise SystemExit("the search disagrees with the plain loop")
    rows = [
        ("plain numba loop", seconds(lambda: _plain_search(x, rates[:, 0], 180.0))),
        ("cpu", seconds(lambda: tcq.search(x, level, rates, 180.0))),
    ]
    title = f"search of {count} latents through {tcq.STATES} states, one thread"
    table(title, 2 * tcq.STATES * count, rows, "branches")
