"""Benchmarks of kernels for CPUs alone: wavelet, smoothing, filter taps, TCQ."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from mambaic_kernels.filter_taps import reference as taps
from mambaic_kernels.filter_taps.scene import Map, Scene, Tap, count_taps
from mambaic_kernels.smoothing import reference as smooth
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


def bench_smooth(height: int, width: int) -> None:
    """Bilateral sums of a photograph on a CPU, against plain torch."""
    x = 0.3 * torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    around = range(-7, 8)
    offsets = tuple((dy, dx) for dy in around for dx in around if (dy, dx) != (0, 0))
    widths = torch.tensor([0.04, 0.09])[:, None, None].expand(2, height, width)
    small, their_widths = x[:, :64, :64], widths[:, :64, :64]
    exact = smooth.bilateral_reference(small.double(), offsets, their_widths)
    if not float((smooth.bilateral(small, offsets, their_widths) - exact).abs().max()) < TOLERANCE:
        raise SystemExit("the bilateral filter disagrees with the reference")
    functions = {"torch": smooth.bilateral_reference, "cpu": smooth.bilateral}
    rows = [
        (name, seconds(bound(function, [x], offsets=offsets, widths=widths)))
        for name, function in functions.items()
    ]
    title = f"bilateral filter of {len(offsets)} offsets (H, W) = {(height, width)}, float32, cpu"
    table(title, len(offsets) * x[0].numel(), rows, "pairs")


def bench_filter_taps(height: int, width: int) -> None:
    """Sums of a filter's taps on a CPU, against plain torch: three lists of 40 maps of all kinds,
    each by three factors."""
    around = ((0, 1), (1, 0), (0, -1), (-1, 0))
    kinds = (Map(0), Map(0, clip=0.0, share=0.3), Map(0, around, clip=0.05))
    maps = [kinds[i % 5 % 3]._replace(source=i % 3) for i in range(40)]
    lists = tuple(
        tuple(Tap(of, (i % 9, (i + own) % 9, 9)) for i, of in enumerate(maps)) for own in range(3)
    )
    coefficients = [np.linspace(-1, 1, count_taps(of)).tolist() for of in lists]

    def scene(height: int, width: int, dtype: torch.dtype = torch.float32) -> Scene:
        values = torch.rand(3, height + 4, width + 4, generator=torch.Generator().manual_seed(0))
        planes = values.to(dtype)
        inner = planes[:, 2:-2, 2:-2].contiguous()
        return Scene(planes, list(inner), [inner[i % 3] for i in range(10)], inner[0] / 20)

    exact = taps.weighted_sums_reference(scene(32, 40, torch.float64), lists, coefficients)
    found = taps.weighted_sums(scene(32, 40), lists, coefficients)
    if not float((found - exact).abs().max() / exact.abs().max()) < TOLERANCE:
        raise SystemExit("the taps disagree with the reference")
    of, count = scene(height, width), sum(map(count_taps, lists))
    rows = [
        ("torch", seconds(lambda: taps.weighted_sums_reference(of, lists, coefficients))),
        ("cpu", seconds(lambda: taps.weighted_sums(of, lists, coefficients))),
    ]
    title = f"sums of {count} taps (H, W) = {(height, width)}, float32, cpu"
    table(title, count * height * width, rows, "taps")


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
