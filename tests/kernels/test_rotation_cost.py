"""The cost of rotated coefficients is that of its definition."""

import numpy as np
import pytest

from mambaic_kernels.rotation_cost import LANES, ROUNDS, rotation_cost


@pytest.mark.parametrize("count", [0, 1, LANES * ROUNDS - 1, LANES * ROUNDS, 5000])
@pytest.mark.parametrize("spread", [1e-3, 1e6])
def test_as_defined(count, spread):
    rng = np.random.default_rng(count)
    planes = (spread * rng.laplace(size=(3, count))).astype(np.float32)
    kept = (rng.random((3, count)) < 0.6).astype(np.float32)
    matrix = np.linalg.qr(rng.normal(size=(3, 3)))[0].astype(np.float32)
    rotated = matrix.astype(np.float64) @ planes
    nats, error = rotation_cost(planes, kept, matrix, np.float32(4.0))
    assert nats == pytest.approx(np.sum(kept * np.log1p(4.0 * abs(rotated))), rel=1e-4, abs=1e-4)
    assert error == pytest.approx(np.sum((1 - kept) * rotated**2), rel=1e-4)
