"""CPU backend: numba kernels on channels-last data, SIMD across channels, no compiler needed.

Work is cut into blocks of channels, one thread each (plain Python threads over nogil functions, so
that any number of callers may run at once). Backward recomputes: it keeps the states at chunk
boundaries and rebuilds one chunk at a time.

Measured: see docs/benchmarks.md, ``python -m mambaic_kernels.bench``.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from mambaic_kernels.simd import exp, f32, jit, softplus
from mambaic_kernels.threads import cut, run

CHUNK = 64  # steps whose states backward holds at once
BLOCK = 128  # channels of one block at most: states of a chunk stay in the L2 cache
TILE = 32  # side of the blocks of a transposition
SERIAL = 1 << 18  # state updates under which threads cost more than they give


# Arguments travel in tuples, which numba unpacks at no cost:
# path (direction, line, length, height, width, reset): one line of one direction;
# block (d0, d1): the channels of this call.


@jit(inline="always")
def position(path, step):  # type: ignore[no-untyped-def]
    """Flat position of one step of a line."""
    k, line, length, height, width, reset = path
    s = length - 1 - step if k % 2 else step
    if reset:
        return line * width + s if k < 2 else s * width + line
    return s if k < 2 else (s % height) * width + s // height


@jit(nogil=True)
def _steps_forward(delta, bias, dt, first, last):  # type: ignore[no-untyped-def]
    """dt = softplus(delta + bias) on rows first..last of (P * K, D)."""
    for row in range(first, last):
        k = row % bias.shape[0]
        for d in range(bias.shape[1]):
            dt[row, d] = softplus(delta[row, d] + bias[k, d])


@jit(nogil=True)
def _steps_backward(gdt, dt, gdelta, gbias, first, last):  # type: ignore[no-untyped-def]
    """Writes the gradient of delta for that of dt, and adds that of the bias."""
    for row in range(first, last):
        k = row % gbias.shape[0]
        for d in range(gbias.shape[1]):
            # the derivative of the softplus is a sigmoid, which is this of its value
            v = gdt[row, d] * (f32(1) - exp(-dt[row, d]))
            gdelta[row, d] = v
            gbias[k, d] += v


@jit(nogil=True)
def _forward(u, dt, A, B, C, y, height, width, reset, d0, d1):  # type: ignore[no-untyped-def]
    """Adds the scan of every direction to y, on channels d0..d1."""
    batch, channels = u.shape[0], d1 - d0
    directions, N, _ = A.shape
    h = np.empty((N, channels), u.dtype)
    acc = np.empty(channels, u.dtype)
    inflow = np.empty(channels, u.dtype)
    for b in range(batch):
        for k in range(directions):
            lines = (height if k < 2 else width) if reset else 1
            length = (width if k < 2 else height) if reset else height * width
            for line in range(lines):
                path = (k, line, length, height, width, reset)
                h[:] = 0.0
                for step in range(length):
                    p = position(path, step)
                    # rows as views: plain 0..channels indices are what LLVM vectorises
                    x, t, out = u[b, p, d0:d1], dt[b, p, k, d0:d1], y[b, p, d0:d1]
                    for d in range(channels):
                        inflow[d] = t[d] * x[d]
                        acc[d] = 0.0
                    for n in range(N):
                        B_n, C_n, A_n, h_n = B[b, p, k, n], C[b, p, k, n], A[k, n, d0:d1], h[n]
                        for d in range(channels):
                            v = exp(t[d] * A_n[d]) * h_n[d] + inflow[d] * B_n
                            h_n[d] = v
                            acc[d] += C_n * v
                    for d in range(channels):
                        out[d] += acc[d]


@jit(nogil=True)
def _advance(states, decay, operands, path, first, count, block):  # type: ignore[no-untyped-def]
    """Rebuild the states after steps first..first+count-1 from states[0]."""
    u, dt, A, B, _ = operands
    d0, d1 = block
    k, channels = path[0], d1 - d0
    for i in range(count):
        p = position(path, first + i)
        x, t = u[p, d0:d1], dt[p, k, d0:d1]
        for n in range(A.shape[1]):
            B_n, A_n = B[p, k, n], A[k, n, d0:d1]
            before, after, a_n = states[i, n], states[i + 1, n], decay[i, n]
            for d in range(channels):
                a = exp(t[d] * A_n[d])
                a_n[d] = a
                after[d] = a * before[d] + t[d] * x[d] * B_n


@jit(nogil=True)
def _retreat(states, decay, g, operands, gradients, path, first, count, block):  # type: ignore[no-untyped-def]
    """Carry the gradient g of the state back over one chunk."""
    u, dt, A, B, C = operands
    gy, gu, gdt, gA, gB, gC = gradients
    d0, d1 = block
    k, channels = path[0], d1 - d0
    for i in range(count - 1, -1, -1):
        p = position(path, first + i)
        x, t, dy = u[p, d0:d1], dt[p, k, d0:d1], gy[p, d0:d1]
        gx, gt = gu[p, d0:d1], gdt[p, k, d0:d1]
        for n in range(A.shape[1]):
            B_n, C_n, g_n = B[p, k, n], C[p, k, n], g[n]
            A_n, gA_n = A[k, n, d0:d1], gA[k, n, d0:d1]
            before, after, a_n = states[i, n], states[i + 1, n], decay[i, n]
            sum_b = f32(0)
            sum_c = f32(0)
            for d in range(channels):
                v = g_n[d] + C_n * dy[d]
                sum_c += dy[d] * after[d]
                sum_b += v * t[d] * x[d]
                carried = v * a_n[d]
                by_decay = carried * before[d]
                total = by_decay * A_n[d] + v * B_n * x[d]
                gt[d] = total if n == 0 else gt[d] + total
                gA_n[d] += by_decay * t[d]
                gx[d] += v * B_n * t[d]
                g_n[d] = carried
            gB[p, k, n] += sum_b
            gC[p, k, n] += sum_c


@jit(nogil=True)
def _backward(u, dt, A, B, C, gy, gu, gdt, gA, gB, gC, height, width, reset, d0, d1):  # type: ignore[no-untyped-def]
    """Adds the gradients of every direction, on channels d0..d1; writes that of dt."""
    directions, N, _ = A.shape
    block = (d0, d1)
    longest = max(height, width) if reset else height * width
    states = np.empty((CHUNK + 1, N, d1 - d0), np.float32)
    decay = np.empty((CHUNK, N, d1 - d0), np.float32)
    starts = np.zeros(((longest + CHUNK - 1) // CHUNK, N, d1 - d0), np.float32)
    g = np.empty((N, d1 - d0), np.float32)
    for b in range(u.shape[0]):
        operands = (u[b], dt[b], A, B[b], C[b])
        gradients = (gy[b], gu[b], gdt[b], gA, gB[b], gC[b])
        for k in range(directions):
            lines = (height if k < 2 else width) if reset else 1
            length = (width if k < 2 else height) if reset else height * width
            chunks = (length + CHUNK - 1) // CHUNK
            for line in range(lines):
                path = (k, line, length, height, width, reset)
                starts[0] = f32(0)
                for c in range(chunks - 1):
                    states[0] = starts[c]
                    _advance(states, decay, operands, path, c * CHUNK, CHUNK, block)
                    starts[c + 1] = states[CHUNK]
                g[:] = f32(0)
                for c in range(chunks - 1, -1, -1):
                    first = c * CHUNK
                    count = min(CHUNK, length - first)
                    states[0] = starts[c]
                    _advance(states, decay, operands, path, first, count, block)
                    _retreat(states, decay, g, operands, gradients, path, first, count, block)


def _blocks(width: int, updates: int, longest: int = BLOCK) -> list[tuple[int, int]]:
    """Ranges of channels (or rows) to work on, of a job of so many ``updates``."""
    return cut(width, 1 if updates < SERIAL else torch.get_num_threads(), longest)


@jit(nogil=True)
def _transpose(source, out, first, last):  # type: ignore[no-untyped-def]
    """out[c, r] = source[r, c] for rows first..last, tile by tile."""
    for r0 in range(first, last, TILE):
        for c0 in range(0, source.shape[1], TILE):
            for r in range(r0, min(r0 + TILE, last)):
                for c in range(c0, min(c0 + TILE, source.shape[1])):
                    out[c, r] = source[r, c]


def _array(tensor: Tensor) -> np.ndarray:
    """Contiguous numpy array; sequences that lie as (B, D, P) are transposed here, as torch's own
    copy of such a view takes longer than the scan."""
    t = tensor.detach()
    flat = t.squeeze(2) if t.ndim == 4 else t
    if t.is_contiguous() or flat.ndim != 3 or not flat.transpose(1, 2).is_contiguous():
        return np.asarray(t.contiguous().numpy())
    out = torch.empty_like(flat, memory_format=torch.contiguous_format)
    for source, target in zip(flat.transpose(1, 2).numpy(), out.numpy(), strict=True):
        run(partial(_transpose_block, source, target), _blocks(flat.shape[-1], t.numel()))
    return np.asarray(out.view(t.shape).numpy())


def _transpose_block(
    source: np.ndarray, target: np.ndarray, index: int, first: int, last: int
) -> None:
    _transpose(source, target, first, last)


def positive_steps(delta: Tensor, bias: Tensor) -> Tensor:
    """softplus(delta + bias): delta (B, P, K, D), bias (K, D), float32."""
    dt = torch.empty_like(delta, memory_format=torch.contiguous_format)
    rows = [t.view(-1, t.shape[-1]).numpy() for t in (delta.detach().contiguous(), dt)]
    shift = bias.detach().contiguous().numpy()

    def task(index: int, first: int, last: int) -> None:
        _steps_forward(rows[0], shift, rows[1], first, last)

    run(task, _blocks(len(rows[0]), dt.numel(), len(rows[0])))
    return dt


def positive_steps_backward(gdt: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of delta and bias for that of dt = ``positive_steps``."""
    gdelta = torch.empty_like(dt)
    rows = [t.view(-1, t.shape[-1]).numpy() for t in (gdt.contiguous(), dt, gdelta)]
    blocks = _blocks(len(rows[0]), dt.numel(), len(rows[0]))
    gbias = dt.new_zeros(len(blocks), *dt.shape[2:])
    sums = gbias.numpy()

    def task(index: int, first: int, last: int) -> None:
        _steps_backward(*rows, sums[index], first, last)

    run(task, blocks)
    return gdelta, gbias.sum(0)


def scan_forward(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, size: tuple[int, int], reset: bool
) -> Tensor:
    """u (B, P, D), dt (B, P, K, D), A (K, N, D), B, C (B, P, K, N), all float32 ->
    y (B, P, D).

    P = H * W positions of a map of ``size``, K = 4 directions (or 1: a plain sequence, H = 1).
    """
    inputs = [_array(t) for t in (u, dt, A, B, C)]
    y = torch.zeros_like(u, memory_format=torch.contiguous_format)
    y_array = y.numpy()

    def task(index: int, first: int, last: int) -> None:
        _forward(*inputs, y_array, *size, reset, first, last)

    run(task, _blocks(u.shape[-1], dt.numel() * A.shape[1]))
    return y


def scan_backward(
    grad: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    size: tuple[int, int],
    reset: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, dt, A, B, C for the gradient of y; shapes as in ``scan_forward``."""
    inputs = [_array(t) for t in (u, dt, A, B, C)]
    gy = _array(grad)
    gu, gA = (torch.zeros_like(t, memory_format=torch.contiguous_format) for t in (u, A))
    gdt = torch.empty_like(dt, memory_format=torch.contiguous_format)
    blocks = _blocks(u.shape[-1], dt.numel() * A.shape[1])
    # every block sums over its own channels, so that threads never write to the same place
    gB = B.new_zeros(len(blocks), *B.shape)
    gC = C.new_zeros(len(blocks), *C.shape)
    outs = [t.numpy() for t in (gu, gdt, gA)]
    gB_array, gC_array = gB.numpy(), gC.numpy()

    def task(index: int, first: int, last: int) -> None:
        grads = (*outs, gB_array[index], gC_array[index])
        _backward(*inputs, gy, *grads, *size, reset, first, last)

    run(task, blocks)
    return gu, gdt, gA, gB.sum(0), gC.sum(0)
