"""Rate + lmbda * distortion, weighted so that every quality stays healthy."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from mambaic.config import ModelConfig
from mambaic.extras import require
from mambaic.models.model import TrainOutput
from mambaic_train import eye
from mambaic_train.config import TrainConfig

T = TypeVar("T", float, Tensor)

# CompressAI's recipes pair the weights 0.0018 to 0.18 of 255**2 * mse with 2.4 to 220 of
# 1 - ms_ssim: 1222 to 1333 times as much, 1280 at the fourth of eight pairs
MS_SSIM_WEIGHT = 1280.0
# What a point of SSIMULACRA2 is worth beside 255**2 * mse: at quality 50, and as a power of lmbda,
# so that at every quality both cost as many bits (docs/training.md, "For the eye").
EYE_POINT, EYE_POWER = 1.03, -0.3
# Shares of the distortion for the eye. mse holds colours; MS-SSIM, so that not one metric alone is
# pleased.
EYE_MSE, EYE_MS_SSIM, EYE_SCORE = 0.1, 0.2, 0.7


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
        return torch.full((count,), config.quality_of(train.lmbda))
    spread = torch.arange(count) + torch.rand(count, generator=generator)
    return 100.0 * spread / count


def eye_distortion(score: T, ms_ssim: T, mse: T, lmbda: T, config: ModelConfig) -> T:
    """Distortion for the eye, on the scale of 255**2 * mse, by the score of SSIMULACRA2 and by
    MS-SSIM."""
    point = EYE_POINT * (lmbda / config.lmbda(50.0)) ** EYE_POWER
    return (
        EYE_MSE * 255**2 * mse
        + EYE_MS_SSIM * MS_SSIM_WEIGHT * (1 - ms_ssim)
        + EYE_SCORE * point * (100 - score)
    )


def rotate_back(x: Tensor, rotations: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in their own colours, from before rotations (B, 3, 3)."""
    return torch.einsum("ndc,ndhw->nchw", rotations, x - 0.5) + 0.5


def _ms_ssim(x: Tensor, x_hat: Tensor) -> Tensor:
    require("train")
    from pytorch_msssim import ms_ssim

    found: Tensor = ms_ssim(x_hat, x, data_range=1.0, size_average=False)
    return found


def rate_distortion(
    x: Tensor,
    q: Tensor,
    output: TrainOutput,
    config: ModelConfig,
    train: TrainConfig,
    rotations: Tensor | None = None,
) -> Loss:
    """loss = weight(q) * (bpp + lmbda(q) * 255**2 * mse), averaged over the batch.

    With metric "ms-ssim" the distortion is lmbda(q) * ``MS_SSIM_WEIGHT`` * (1 - ms_ssim), with
    "eye" lmbda(q) * ``eye_distortion``, of colours as they were before ``rotations`` (B, 3, 3).
    """
    lmbda = torch.exp(config.log_lmbda(q))
    bpp = output.bits / (x.shape[-1] * x.shape[-2])
    x_hat = output.x_hat.float()
    # summed, then divided: so that no operation of the backward pass only fills a map
    mse = F.mse_loss(x_hat, x, reduction="none").sum(dim=(1, 2, 3)) / x[0].numel()
    if train.metric == "mse":
        distortion = lmbda * 255**2 * mse
    elif train.metric == "eye":
        seen = [x, x_hat]
        if rotations is not None:
            seen = [rotate_back(colours, rotations) for colours in seen]
        alike = _ms_ssim(*seen)
        distortion = lmbda * eye_distortion(eye.score(*seen), alike, mse, lmbda, config)
    else:
        distortion = lmbda * MS_SSIM_WEIGHT * (1 - _ms_ssim(x, x_hat))
    weight = (lmbda / config.lmbda(50.0)) ** train.weighting
    return Loss(((bpp + distortion) * weight).mean(), bpp.detach(), mse.detach())
