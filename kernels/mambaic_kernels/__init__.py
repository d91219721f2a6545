"""Selective scans for CPU and CUDA: one definition, several backends, no build step.

    selective_scan   the sequence scan of Mamba (signature of mamba_ssm's selective_scan_fn)
    ss2d_scan        the four-direction scan of a feature map, without a four-fold copy

Beside them, for CPUs: ``mixture`` (likelihood of a latent), ``wavelet`` (one level of it),
``smooth`` and ``terms`` (the post-filter), ``trellis`` (quantisation) and ``ans`` (entropy coding).
"""

from mambaic_kernels.dispatch import available, pick
from mambaic_kernels.errors import KernelUnavailable
from mambaic_kernels.selective_scan.scans import selective_scan, ss2d_scan

__all__ = ["KernelUnavailable", "available", "pick", "selective_scan", "ss2d_scan"]
