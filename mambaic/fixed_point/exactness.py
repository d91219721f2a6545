"""Whether a device's float32 products are what the fixed-point walk relies on.

Settings outside torch's reach (``DNNL_DEFAULT_FPMATH_MODE``, ``NVIDIA_TF32_OVERRIDE``) can make a
device multiply in fewer bits, and some algorithms of convolutions transform their inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch.nn import functional as F

from mambaic.errors import DeviceError
from mambaic.numerics import exact_sums

CHANNELS, SIDE = 64, 12


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """What the fixed-point walk runs in. Raises DeviceError as ``assure_exact``."""
    with exact_sums(device):
        assure_exact(device)
        yield


@lru_cache(maxsize=16)
def assure_exact(device: torch.device) -> None:
    """Raises DeviceError if a device does not add integers under ``grid.EXACT`` exactly."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-229, 230, (1, CHANNELS, SIDE, SIDE), generator=generator).float()
    weight = torch.randint(-127, 128, (CHANNELS, CHANNELS, 3, 3), generator=generator).float()
    rows, matrix = x.flatten(2)[0].T.contiguous(), weight[:, :, 1, 1].contiguous()
    found = [
        F.conv2d(x.to(device), weight.to(device), padding=1),
        F.linear(rows.to(device), matrix.to(device)),
    ]
    expected = [
        F.conv2d(x.double(), weight.double(), padding=1),
        F.linear(rows.double(), matrix.double()),
    ]
    for one, other in zip(found, expected, strict=True):
        if not torch.equal(one.cpu().double(), other):
            raise DeviceError(
                f"{device} does not multiply float32 exactly here, so files would not decode "
                "elsewhere: unset DNNL_DEFAULT_FPMATH_MODE and NVIDIA_TF32_OVERRIDE, or use "
                "another --device"
            )
