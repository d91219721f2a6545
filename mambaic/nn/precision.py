"""Where bfloat16 is worth using: for gradients and an encoder's g_a; decoders see none of it."""

from __future__ import annotations

import torch
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bfloat16 faster than float32.

    Where a CPU has no instructions for it, as in most laptops, torch's convolutions take longer, up
    to ten times, and with those of AVX-512 alone 1.7 times on Intel's; AMD's and AMX are faster
    (docs/experiments/notebook.md, "Throughput"). Others have not been measured and count as slower.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    features = get_host_cpu_features()
    amd = get_host_cpu_name().startswith("znver")
    return bool(features.get("amx-bf16") or (amd and features.get("avx512bf16")))
