"""The two public functions: the sequence scan of Mamba and the four-direction scan of a map."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mambaic_kernels.dispatch import pick
from mambaic_kernels.scan import reference
from mambaic_kernels.scan.layout import check_lines, from_sequence, to_sequence
from mambaic_kernels.scan.operators import positive_steps, scan


def _positive_delta(delta: Tensor, bias: Tensor | None, softplus: bool) -> Tensor:
    dt = delta if bias is None else delta + bias
    return F.softplus(dt) if softplus else dt


def ss2d_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    delta_softplus: bool = True,
    lines: str = "flat",
    backend: str = "auto",
) -> Tensor:
    """Four-direction selective scan of a channels-last feature map ([Liu2024], Sec. 3.2).

    Args:
        u: (B, H, W, D).
        delta: (B, H, W, 4, D), before bias and softplus.
        A: (4, D, N), negative.
        B, C: (B, H, W, 4, N).
        D: (4, D), weight of the input in the output of each direction.
        delta_bias: (4, D).
        lines: "flat" scans each direction as one sequence of H * W; "reset" restarts the state at
            every row (directions 0, 1) or column (2, 3).
        backend: "reference", "cpu", "triton", "mamba_ssm", or "auto" by device.

    Returns y (B, H, W, D) in the type of ``u``, the sum of the directions; computed in float32, or
    by the reference in float64 when ``u`` is float64.

    Raises KernelUnavailable if the backend cannot run here.
    """
    check_lines(lines)
    chosen = pick(backend, u.device)
    if chosen == "reference" or u.dtype == torch.float64:
        return reference.ss2d_scan(u, delta, A, B, C, D, delta_bias, delta_softplus, lines)
    v, A, B, C = (t.float() for t in (u, A, B, C))
    if chosen == "cpu" and delta_softplus and delta_bias is not None:
        dt = positive_steps(delta.float().flatten(1, 2), delta_bias.float()).view(delta.shape)
    else:
        dt = _positive_delta(delta.float(), delta_bias, delta_softplus)
    if chosen == "mamba_ssm":
        y = _by_mamba_ssm(v, dt, A, B, C, lines)
    else:
        height, width = u.shape[1:3]
        v_flat, dt, B, C = (t.flatten(1, 2) for t in (v, dt, B, C))
        A = A.transpose(1, 2).contiguous()
        y = scan(v_flat, dt, A, B, C, height, width, lines == "reset", chosen).view(u.shape)
    if D is not None:
        y = y + v * D.sum(0)
    return y.to(u.dtype)


def _by_mamba_ssm(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, lines: str) -> Tensor:
    """The same through mamba_ssm's sequence scan, on copies of the four sequences."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    size = (u.shape[0], u.shape[1], u.shape[2])
    total = torch.zeros_like(u)
    for k in range(4):
        operands = (u, dt[..., k, :], B[..., k, :], C[..., k, :])
        u_k, dt_k, B_k, C_k = (
            to_sequence(t, k, lines).transpose(1, 2).contiguous() for t in operands
        )
        y = selective_scan_fn(u_k, dt_k, A[k], B_k, C_k)
        total = total + from_sequence(y.transpose(1, 2), k, lines, size)
    return total


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    *,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Selective scan of sequences; names, shapes and meaning of mamba_ssm's selective_scan_fn.

    Args:
        u, delta, z: (B, D, L).
        A: (D, N), real.
        B, C: (D, N), (B, N, L) or (B, G, N, L) with G dividing D.
        D, delta_bias: (D,).

    Returns y (B, D, L) in the type of ``u``, gated by SiLU(z) if given; with
    ``return_last_state`` also the state after the last step (B, D, N).

    Raises KernelUnavailable if the backend cannot run here, TypeError for complex A.
    """
    if A.is_complex():
        raise TypeError("selective_scan supports real A only")
    chosen = pick(backend, u.device)
    length = u.shape[-1]
    B4, C4 = (_grouped(t, u.shape[0], length) for t in (B, C))
    if chosen == "mamba_ssm":
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

        out: Tensor | tuple[Tensor, Tensor] = selective_scan_fn(
            u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state
        )
        return out
    if chosen == "reference" or u.dtype == torch.float64:
        y, state = reference.selective_scan(u, delta, A, B4, C4, delta_bias, delta_softplus)
    else:
        dt = delta.float() if delta_bias is None else delta.float() + delta_bias[:, None]
        dt = F.softplus(dt) if delta_softplus else dt
        y = _by_groups(u.float(), dt, A.float(), B4.float(), C4.float(), chosen)
        state = _last_state(u.float(), dt, A.float(), B4.float()) if return_last_state else y
    if D is not None:
        y = y + u.to(y.dtype) * D[:, None]
    if z is not None:
        y = y * F.silu(z.to(y.dtype))
    y = y.to(u.dtype)
    return (y, state) if return_last_state else y


def _grouped(t: Tensor, batch: int, length: int) -> Tensor:
    """Any accepted shape of B or C as (B, G, N, L)."""
    if t.ndim == 2:  # (D, N): constant in time, one group per channel
        return t[None, :, :, None].expand(batch, -1, -1, length)
    return t[:, None] if t.ndim == 3 else t


def _by_groups(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, backend: str) -> Tensor:
    """One operator call per group of channels that share B and C."""
    groups, length = B.shape[1], u.shape[-1]
    rows = []
    for g, (u_g, dt_g, A_g) in enumerate(
        zip(u.chunk(groups, 1), dt.chunk(groups, 1), A.chunk(groups, 0), strict=True)
    ):
        y = scan(
            u_g.transpose(1, 2),
            dt_g.transpose(1, 2)[:, :, None],
            A_g.T[None].contiguous(),
            B[:, g].transpose(1, 2)[:, :, None].contiguous(),
            C[:, g].transpose(1, 2)[:, :, None].contiguous(),
            1,
            length,
            False,
            backend,
        )
        rows.append(y.transpose(1, 2))
    return rows[0] if groups == 1 else torch.cat(rows, dim=1)


def _last_state(u: Tensor, dt: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """State after the last step: inputs weighted by the decay of all later steps, (B, D, N)."""
    later = dt.flip(-1).cumsum(-1).flip(-1) - dt
    decay = torch.exp(later[:, :, None] * A[None, :, :, None])
    inflow = (dt * u)[:, :, None] * B.repeat_interleave(u.shape[1] // B.shape[1], dim=1)
    return (decay * inflow).sum(-1)
