"""Where bfloat16 is worth using: for gradients alone, nothing that is coded depends on it."""

from __future__ import annotations

import torch
from llvmlite.binding import get_host_cpu_features


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` has instructions for products of bfloat16.

    Where a CPU has none, as in most laptops, torch's convolutions take longer in bfloat16 than in
    float32, up to ten times (docs/training.md). Only those of x86 have been measured: others count
    as without.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(get_host_cpu_features().get("avx512bf16"))
