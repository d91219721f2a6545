"""Settings of one training run, saved in its state and its model card."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from mambaic.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What decides the course of a run. The schedule runs over ``steps`` or over ``minutes``.

    Shares of the schedule: ``warm_entropy``, how long the entropy model learns alone on the linear
    codec; ``large_from``, from when crops are ``large_crop`` instead of ``crop``; ``cooldown``, how
    long at its end the learning rate falls (1: all along).
    """

    preset: str = "s"
    lmbda: float | None = None  # one rate instead of all
    metric: Literal["mse", "ms-ssim", "eye"] = "mse"
    steps: int | None = None
    minutes: float | None = None
    batch: int = 16
    crop: int = 128
    large_crop: int = 256
    large_from: float = 0.7
    warm_entropy: float = 0.0
    lr: float = 4e-3
    network_lr: float = 0.4  # learning rate of the transform networks, as a share of ``lr``
    lr_end: float = 0.02  # share of ``lr`` at the end of the cosine
    cooldown: float = 1.0
    warmup_steps: int = 200
    clip: float = 0.5
    ema: float = 0.999
    # weight of an image is (lmbda / lmbda of quality 50) ** weighting: see docs/training.md
    weighting: float = -0.5
    seed: int = 0
    precision: Literal["bf16", "fp32"] = "bf16"
    cuda_graph: bool = False  # forward and backward pass recorded: see ``mambaic_train.graph``

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ConfigError("a schedule needs either steps or minutes")
        for field in ("crop", "large_crop"):
            if getattr(self, field) < 64 or getattr(self, field) % 64:
                raise ConfigError(f"{field} = {getattr(self, field)} must be a multiple of 64")
        if not 0 < self.cooldown <= 1:
            raise ConfigError(f"cooldown = {self.cooldown} must be a share of the schedule")
        if self.batch < 1:
            raise ConfigError(f"batch = {self.batch} must be at least 1")
        if self.metric != "mse" and min(self.crop, self.large_crop) < 192:
            raise ConfigError(f"metric {self.metric} needs crops of at least 192 pixels")

    @property
    def plateau(self) -> float:
        """Share of the schedule before the learning rate falls."""
        return 1 - self.cooldown

    def batch_at(self, crop: int) -> int:
        """Images per step at a crop size: the pixels of a step stay the same."""
        return max(1, self.batch * self.crop**2 // crop**2)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
