"""Rate + lmbda * distortion, weighted so that every quality stays healthy."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mambaic.config import ModelConfig
from mambaic.extras import require
from mambaic.models.model import TrainOutput
from mambaic_train.config import TrainConfig

# CompressAI's recipes pair the weights 0.0018 to 0.18 of 255**2 * mse with 2.4 to 220 of
# 1 - ms_ssim: 1222 to 1333 times as much, 1280 at the fourth of eight pairs
MS_SSIM_WEIGHT = 1280.0


class Loss(NamedTuple):
    """Scalar to minimise; bpp and mse per image (B,), detached."""

    value: Tensor
    bpp: Tensor
    mse: Tensor


def draw_qualities(
    count: int, config: ModelConfig, train: TrainConfig, generator: torch.Generator
) -> Tensor:
    """One quality per image (count,): stratified over [0, 100], or the one of a fixed lmbda."""
    if train.lmbda is not None:
        return torch.full((count,), quality_of(train.lmbda, config))
    spread = torch.arange(count) + torch.rand(count, generator=generator)
    return 100.0 * spread / count


def quality_of(lmbda: float, config: ModelConfig) -> float:
    """Quality whose rate-distortion weight is ``lmbda``, clamped to [0, 100]."""
    low, high = torch.log(torch.tensor([config.lmbda_min, config.lmbda_max])).tolist()
    quality = 100.0 * (float(torch.log(torch.tensor(lmbda))) - low) / (high - low)
    return min(100.0, max(0.0, quality))


def rate_distortion(
    x: Tensor, q: Tensor, output: TrainOutput, config: ModelConfig, train: TrainConfig
) -> Loss:
    """loss = weight(q) * (bpp + lmbda(q) * 255**2 * mse), averaged over the batch.

    With metric "ms-ssim" the distortion is lmbda(q) * ``MS_SSIM_WEIGHT`` * (1 - ms_ssim).
    """
    lmbda = config.lmbda(0.0) * (config.lmbda(100.0) / config.lmbda(0.0)) ** (q / 100.0)
    bpp = output.bits / (x.shape[-1] * x.shape[-2])
    x_hat = output.x_hat.float()
    # summed, then divided: so that no operation of the backward pass only fills a map
    mse = F.mse_loss(x_hat, x, reduction="none").sum(dim=(1, 2, 3)) / x[0].numel()
    if train.metric == "mse":
        distortion = lmbda * 255**2 * mse
    else:
        require("train")
        from pytorch_msssim import ms_ssim

        dissimilar = 1 - ms_ssim(x_hat, x, data_range=1.0, size_average=False)
        distortion = lmbda * MS_SSIM_WEIGHT * dissimilar
    weight = (lmbda / config.lmbda(50.0)) ** train.weighting
    return Loss(((bpp + distortion) * weight).mean(), bpp.detach(), mse.detach())
