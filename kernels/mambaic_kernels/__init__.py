"""Selective scans for CPU and CUDA: one definition, several backends, no build step.

    selective_scan   the sequence scan of Mamba (signature of mamba_ssm's selective_scan_fn)
    ss2d_scan        the four-direction scan of a feature map, without a four-fold copy

One folder per operation, each with its reference beside the fast ones: ``scan``, ``tcq``
(trellis-coded quantisation), ``entropy_coder``, ``mixture`` (likelihoods), ``wavelet``,
and ``filter_maps`` (the post-filter).
"""

from mambaic_kernels.dispatch import available, pick
from mambaic_kernels.errors import KernelUnavailable
from mambaic_kernels.scan.interface import selective_scan, ss2d_scan

__all__ = ["KernelUnavailable", "available", "pick", "selective_scan", "ss2d_scan"]
