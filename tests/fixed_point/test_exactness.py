"""A device that multiplies in fewer bits is refused."""

from __future__ import annotations

import pytest
import torch

from mambaic.errors import DeviceError
from mambaic.fixed_point import exactness

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def fresh():
    exactness.assure_exact.cache_clear()
    yield
    exactness.assure_exact.cache_clear()


def test_this_machine_is_exact():
    with exactness.exact_arithmetic(CPU):
        pass


@pytest.mark.parametrize("name", ["conv2d", "linear"])
def test_products_in_bfloat16_are_refused(monkeypatch, name):
    multiply = getattr(torch.nn.functional, name)

    def coarse(x, weight, *more, **options):
        if x.dtype == torch.float64:
            return multiply(x, weight, *more, **options)
        return multiply(x.bfloat16(), weight.bfloat16(), *more, **options).float()

    monkeypatch.setattr(torch.nn.functional, name, coarse)
    with pytest.raises(DeviceError, match="FPMATH"), exactness.exact_arithmetic(CPU):
        pass
