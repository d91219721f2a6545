"""Benchmark of scans, wavelet and trellis: ``python -m mambaic_kernels.bench [--device cuda]``.

Every backend first passes a parity check in this process, then is timed against the torch
reference, a plain numba loop, mamba_ssm where installed, and the time that merely copying the
operands takes (the memory-bandwidth floor). Times are medians of ``torch.utils.benchmark``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from mambaic_kernels import available, selective_scan, ss2d_scan, trellis, wavelet
from mambaic_kernels.operators import scan

TOLERANCE = 2e-5
SEQUENCE = (1, 1536, 6144, 8)  # B, D, L, N
PLANES = ((24, 256, 256), (3, 2048, 2048))  # planes, H, W: training crops, a piece of a photograph
MAPS = ((1, 48, 32, 192, 4), (1, 96, 64, 128, 4), (16, 16, 16, 128, 4))  # B, H, W, D, N


@numba.njit(parallel=True)
def _plain_loop(u, dt, A, B, C):  # type: ignore[no-untyped-def]
    """The scan as one would first write it: a loop over channels with a scalar exp."""
    batch, channels, length = u.shape
    N = A.shape[1]
    y = np.zeros_like(u)
    for i in numba.prange(batch * channels):
        b, d = i // channels, i % channels
        h = np.zeros(N, np.float32)
        for t in range(length):
            total = np.float32(0)
            for n in range(N):
                decay = np.exp(dt[b, d, t] * A[d, n])
                h[n] = decay * h[n] + dt[b, d, t] * u[b, d, t] * B[b, n, t]
                total += C[b, n, t] * h[n]
            y[b, d, t] = total
    return y


def sequence_operands(shape: tuple[int, ...], device: str) -> list[Tensor]:
    """u, delta, A, B, C of ``selective_scan``; delta is positive already."""
    batch, channels, length, N = shape
    g = torch.Generator().manual_seed(0)
    operands = [
        torch.randn(batch, channels, length, generator=g),
        torch.rand(batch, channels, length, generator=g) * 0.3,
        -torch.rand(channels, N, generator=g) * N,
        torch.randn(batch, N, length, generator=g),
        torch.randn(batch, N, length, generator=g),
    ]
    return [t.to(device) for t in operands]


def map_operands(shape: tuple[int, ...], device: str) -> list[Tensor]:
    """u, delta, A, B, C of ``ss2d_scan``."""
    batch, height, width, channels, N = shape
    g = torch.Generator().manual_seed(0)
    operands = [
        torch.randn(batch, height, width, channels, generator=g),
        torch.rand(batch, height, width, 4, channels, generator=g) * 0.3,
        -torch.rand(4, channels, N, generator=g) * N,
        torch.randn(batch, height, width, 4, N, generator=g),
        torch.randn(batch, height, width, 4, N, generator=g),
    ]
    return [t.to(device) for t in operands]


def check(
    function: Callable[..., Any], operands: list[Tensor], backend: str, **options: Any
) -> None:
    """Raise unless the backend agrees with the float64 reference."""
    fast = function(*operands, backend=backend, **options).double()
    exact = function(*(t.double() for t in operands), backend="reference", **options)
    error = float((fast - exact).abs().max() / exact.abs().max())
    if not error < TOLERANCE:
        raise SystemExit(f"{backend} disagrees with the reference: relative error {error:.1e}")


def _seconds(function: Callable[[], Any], at_least: float = 1.0) -> float:
    timer = Timer("run()", globals={"run": function}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=at_least).median)


def _with_gradients(function: Callable[..., Any], operands: list[Tensor], **options: Any) -> Any:
    leaves = [t.detach().requires_grad_() for t in operands]

    def run() -> None:
        torch.autograd.grad(function(*leaves, **options).sum(), leaves)

    return run


def _table(
    title: str, updates: int, rows: list[tuple[str, float]], unit: str = "updates"
) -> None:
    print(f"\n{title}")
    print(f"{'':30}{'ms':>10}{f'G {unit}/s':>13}{'times the first':>17}")
    for name, seconds in rows:
        print(
            f"{name:30}{seconds * 1e3:10.2f}{updates / seconds / 1e9:13.2f}"
            f"{rows[0][1] / seconds:17.1f}"
        )


def bench_sequence(device: str) -> None:
    """``selective_scan`` at the size of a VSS block on a 1536 x 1024 photograph."""
    operands = sequence_operands(SEQUENCE, device)
    updates = SEQUENCE[0] * SEQUENCE[1] * SEQUENCE[2] * SEQUENCE[3]
    rows = []
    if device == "cpu":
        arrays = [t.numpy() for t in operands]
        rows.append(("plain numba loop", _seconds(lambda: _plain_loop(*arrays))))
        u, dt, A, B, C = operands  # the model's own layout: no transposition
        last = [t.transpose(1, 2).contiguous() for t in (u, dt, B, C)]
        steps = [t[:, :, None] for t in last[1:]]
        inner = (steps[0], A.T[None].contiguous(), *steps[1:], 1, u.shape[-1], False, "cpu")
        rows.append(("cpu forward, channels last", _seconds(lambda: scan(last[0], *inner))))
    small = [t[..., :64].contiguous() if t.ndim == 3 else t for t in operands]
    for backend in _fast(device):
        check(selective_scan, small, backend)
        run = _bound(selective_scan, operands, backend=backend)
        rows.append((f"{backend} forward", _seconds(run)))
        both = _with_gradients(selective_scan, operands, backend=backend)
        rows.append((f"{backend} forward + backward", _seconds(both)))
    rows.append(("copy of operands and output", _seconds(lambda: _copy([*operands, operands[0]]))))
    _table(f"selective_scan (B, D, L, N) = {SEQUENCE}, float32, {device}", updates, rows)


def bench_map(shape: tuple[int, ...], device: str) -> None:
    """``ss2d_scan`` at a size that preset s meets."""
    batch, height, width, channels, N = shape
    operands = map_operands(shape, device)
    options: dict[str, Any] = {"delta_softplus": False, "lines": "reset"}
    rows = [
        (
            "reference forward",
            _seconds(_bound(ss2d_scan, operands, backend="reference", **options)),
        )
    ]
    for backend in _fast(device):
        check(ss2d_scan, operands, backend, **options)
        run = _bound(ss2d_scan, operands, backend=backend, **options)
        rows.append((f"{backend} forward", _seconds(run)))
        both = _with_gradients(ss2d_scan, operands, backend=backend, **options)
        rows.append((f"{backend} forward + backward", _seconds(both)))
    rows.append(("copy of operands and output", _seconds(lambda: _copy([*operands, operands[0]]))))
    updates = 4 * batch * height * width * channels * N
    _table(f"ss2d_scan (B, H, W, D, N) = {shape}, float32, {device}", updates, rows)


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
        rows.append((f"{name} forward", _seconds(_bound(function, [x]))))
        both = _with_gradients(function, [x])
        rows.append((f"{name} forward + backward", _seconds(both)))
    rows.append(("copy", _seconds(lambda: _copy([x, x]))))
    title = f"wavelet level and inverse (planes, H, W) = {shape}, float32, cpu"
    _table(title, 2 * x.numel(), rows, "samples")


def check_wavelet(x: Tensor) -> None:
    """Raise unless both directions agree with the float64 reference."""
    exact = wavelet.analyse_reference(x.double())
    errors = (wavelet.analyse(x) - exact, wavelet.synthesise(exact.float()) - x)
    if not max(float(error.abs().max()) for error in errors) < TOLERANCE:
        raise SystemExit("the wavelet disagrees with the reference")


@numba.njit
def _plain_search(x, prices, weight):  # type: ignore[no-untyped-def]
    """The Viterbi algorithm as one would first write it: over states, into the next ones."""
    states = trellis.STATES
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
                total = weight * error * error + prices[odd, min(best, prices.shape[1] - 1)]
                zero = weight * magnitude * magnitude + prices[odd, 0]
                if parity == 0 and zero < total:
                    best, total = 0, zero
                branch[odd, parity], symbol[odd, parity] = total, best
        new[:] = np.inf
        for state in range(states):
            odd = state & 1
            for parity in range(2):
                after = (state >> 1) ^ (odd * trellis.FEEDBACK) ^ (parity * trellis.INPUT)
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


def bench_trellis(count: int) -> None:
    """Search through the trellis for ``count`` Laplacian latents of one level."""
    x = np.random.default_rng(0).laplace(size=count)
    level = np.zeros(count, dtype=np.int64)
    prices = (1.0 + 1.5 * np.arange(64, dtype=np.float32)) * np.ones((2, 1, 1), np.float32)
    found = trellis.search(x, level, prices, 180.0)
    if np.mean(found != _plain_search(x, prices[:, 0], 180.0)) > 1e-3:  # rounding may decide a tie
        raise SystemExit("the search disagrees with the plain loop")
    rows = [
        ("plain numba loop", _seconds(lambda: _plain_search(x, prices[:, 0], 180.0))),
        ("cpu", _seconds(lambda: trellis.search(x, level, prices, 180.0))),
    ]
    title = f"search of {count} latents through {trellis.STATES} states, one thread"
    _table(title, 2 * trellis.STATES * count, rows, "branches")


def _bound(function: Callable[..., Any], operands: list[Tensor], **options: Any) -> Any:
    def run() -> None:
        with torch.no_grad():
            function(*operands, **options)
        if operands[0].is_cuda:
            torch.cuda.synchronize()

    return run


def _copy(tensors: list[Tensor]) -> None:
    for tensor in tensors:
        tensor.clone()
    if tensors[0].is_cuda:
        torch.cuda.synchronize()


def _fast(device: str) -> list[str]:
    """Backends to time on a device, without the reference."""
    natural = ("cpu",) if device == "cpu" else ("triton", "mamba_ssm")
    return [name for name in natural if name in available()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=default)
    parser.add_argument("--threads", type=int, help="torch and numba threads [default: all]")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
        numba.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.device}")
    bench_sequence(arguments.device)
    for shape in MAPS:
        bench_map(shape, arguments.device)
    if arguments.device == "cpu":
        for planes in PLANES:
            bench_wavelet(planes)
        bench_trellis(20_000)


if __name__ == "__main__":
    main()
