"""Four-direction selective scan in fixed point: the same numbers on every device."""

from __future__ import annotations

from torch import Tensor

from mambaic_kernels.fixed_scan import cpu, reference


def fixed_scan(
    u: Tensor,
    dt: Tensor,
    rates: Tensor,
    B: Tensor,
    C: Tensor,
    size: tuple[int, int],
    *,
    reset: bool,
) -> Tensor:
    """Scan of a map of ``size`` (height, width), P = height * width positions.

    Args:
        u: (batch, P, D) float32, as all tensors.
        dt: (batch, P, 4, D), not negative.
        rates: (4, N, D), the negative of A.
        B, C: (batch, P, 4, N).
        reset: the state starts anew at every row (directions 0, 1) or column (2, 3).

    Returns y (batch, P, D), the sum of the directions in multiples of ``reference.STATE``.
    """
    backend = reference if u.device.type != "cpu" else cpu
    return backend.fixed_scan(u, dt, rates, B, C, size, reset=reset)
