"""Benchmark of the kernels: ``python -m mambaic_kernels.bench [--device cuda]``.

Every backend first passes a parity check in this process, then is timed against the torch
reference, a plain numba loop, mamba_ssm where installed, and the time that merely copying the
operands takes (the memory-bandwidth floor).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from mambaic_kernels import available, selective_scan, ss2d_scan
from mambaic_kernels.bench_cpu import bench_filter_maps, bench_tcq, bench_wavelet
from mambaic_kernels.scan.operators import scan
from mambaic_kernels.timing import TOLERANCE, bound, copy, seconds, table, with_gradients

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


def bench_sequence(device: str) -> None:
    """``selective_scan`` at the size of a VSS block on a 1536 x 1024 photograph."""
    operands = sequence_operands(SEQUENCE, device)
    updates = SEQUENCE[0] * SEQUENCE[1] * SEQUENCE[2] * SEQUENCE[3]
    rows = []
    if device == "cpu":
        arrays = [t.numpy() for t in operands]
        rows.append(("plain numba loop", seconds(lambda: _plain_loop(*arrays))))
        u, dt, A, B, C = operands  # the model's own layout: no transposition
        last = [t.transpose(1, 2).contiguous() for t in (u, dt, B, C)]
        steps = [t[:, :, None] for t in last[1:]]
        inner = (steps[0], A.T[None].contiguous(), *steps[1:], 1, u.shape[-1], False, "cpu")
        rows.append(("cpu forward, channels last", seconds(lambda: scan(last[0], *inner))))
    small = [t[..., :64].contiguous() if t.ndim == 3 else t for t in operands]
    for backend in _fast(device):
        check(selective_scan, small, backend)
        run = bound(selective_scan, operands, backend=backend)
        rows.append((f"{backend} forward", seconds(run)))
        both = with_gradients(selective_scan, operands, backend=backend)
        rows.append((f"{backend} forward + backward", seconds(both)))
    rows.append(("copy of operands and output", seconds(lambda: copy([*operands, operands[0]]))))
    table(f"selective_scan (B, D, L, N) = {SEQUENCE}, float32, {device}", updates, rows)


def bench_map(shape: tuple[int, ...], device: str) -> None:
    """``ss2d_scan`` at a size that preset s meets."""
    batch, height, width, channels, N = shape
    operands = map_operands(shape, device)
    options: dict[str, Any] = {"delta_softplus": False, "lines": "reset"}
    rows = [
        (
            "reference forward",
            seconds(bound(ss2d_scan, operands, backend="reference", **options)),
        )
    ]
    for backend in _fast(device):
        check(ss2d_scan, operands, backend, **options)
        run = bound(ss2d_scan, operands, backend=backend, **options)
        rows.append((f"{backend} forward", seconds(run)))
        both = with_gradients(ss2d_scan, operands, backend=backend, **options)
        rows.append((f"{backend} forward + backward", seconds(both)))
    rows.append(("copy of operands and output", seconds(lambda: copy([*operands, operands[0]]))))
    updates = 4 * batch * height * width * channels * N
    table(f"ss2d_scan (B, H, W, D, N) = {shape}, float32, {device}", updates, rows)


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
        bench_filter_maps(512, 768)
        bench_tcq(20_000)


if __name__ == "__main__":
    main()
