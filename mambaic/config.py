"""Frozen configurations of the model and the shipped presets.

A configuration is saved inside every checkpoint and never inferred from weight shapes.
``paper`` follows [Zeng2025] MambaIC, CVPR 2025, arXiv:2503.12461; ``s`` and ``b`` are ours.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from mambaic.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T", float, "Tensor")

TRAINED = 100.0  # the quality up to which the networks have been trained
STRETCHED_FROM = 85.0
MOST_LEVELS = 2047  # of either sign, of what a layer takes in, in fixed point: two digits of a byte
BLOCK_FIELDS = ("analysis8", "analysis16", "synthesis16", "synthesis8", "context_blocks")


@dataclass(frozen=True, kw_only=True)
class VSSConfig:
    """One visual state-space block. ``lines``: see ``mambaic_kernels.ss2d_scan``."""

    d_state: int = 4
    expansion: float = 1.0
    ffn_expansion: float = 1.0
    lines: Literal["flat", "reset"] = "reset"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that decides the shape of a model and the meaning of its files."""

    name: str
    transform: Literal["wavelet", "conv"] = "wavelet"
    M: int = 320  # latent channels
    z_channels: int = 96
    groups: tuple[int, ...] = (16, 48, 96, 160)
    vss: VSSConfig = VSSConfig()
    # wavelet family: widths at 1/8 and 1/16, and the blocks there ("r" residual conv, "v" VSS,
    # "a" window attention) of analysis and synthesis
    width8: int = 128
    width16: int = 192
    analysis8: str = "rr"
    analysis16: str = "vr"
    synthesis16: str = "vr"
    synthesis8: str = "rvr"
    # conv family ([Zeng2025]): width of the stages and VSS depths from 1/2 to 1/16
    N: int = 128
    depths: tuple[int, ...] = (2, 2, 9, 2)
    # entropy model
    context_width: int = 160
    context_blocks: str = "va"
    context_shared: bool = True  # one set of context blocks for all groups
    context_span: int = 0  # rows and columns that its scans see at once; 0: the whole tile
    coarse_to_fine: int = 0  # groups whose anchors are coded in four steps instead of one
    slices: int = 1  # parts of a group's channels that a step codes one after the other
    slice_width: int = 32  # hidden width of what the later ones are told
    slice_gates: int = 0  # weights by which the context says what that means
    lrp: bool = False  # latent residual prediction, [Minnen2020]
    window: int = 8
    # rate
    lmbda_min: float = 0.0009
    lmbda_max: float = 0.18  # of quality TRAINED
    rate_anchors: int = 9
    # finest colours, and qualities beyond what the networks know
    fine_width: int = 0  # hidden width of their networks; 0: no such networks
    fine_levels: int = MOST_LEVELS  # steps of either sign of what their layers take in
    highest: float = TRAINED  # what a quality of 100 is stretched to
    halo: int = 16  # latents of overlap for tiled running

    def __post_init__(self) -> None:
        if sum(self.groups) != self.M:
            raise ConfigError(f"groups {self.groups} must sum to M = {self.M}")
        if self.slices < 1 or any(width % self.slices for width in self.groups):
            raise ConfigError(f"groups {self.groups} cannot be cut into slices = {self.slices}")
        if not 0 < self.lmbda_min <= self.lmbda_max:
            raise ConfigError(f"lmbda range [{self.lmbda_min}, {self.lmbda_max}] must be positive")
        if self.rate_anchors < 2:
            raise ConfigError(f"rate_anchors = {self.rate_anchors} must be at least 2")
        if self.highest < TRAINED or (self.highest > TRAINED and not self.fine_width):
            raise ConfigError(f"highest = {self.highest} needs fine_width and at least {TRAINED}")
        if not 0 < self.fine_levels <= MOST_LEVELS:
            raise ConfigError(f"fine_levels = {self.fine_levels} must be in 1..{MOST_LEVELS}")
        for field in BLOCK_FIELDS:
            if set(getattr(self, field)) - set("rva"):
                raise ConfigError(f"{field} = {getattr(self, field)!r} may use only r, v and a")

    def log_lmbda(self, quality: T) -> T:
        """Logarithm of ``lmbda``, a straight line over quality; of tensors, too."""
        low, high = math.log(self.lmbda_min), math.log(self.lmbda_max)
        return low + (high - low) * quality / TRAINED

    def lmbda(self, quality: float) -> float:
        """Rate-distortion weight of a stretched quality; loss = bpp + lmbda * 255**2 * mse."""
        return math.exp(self.log_lmbda(quality))

    def quality_of(self, lmbda: float) -> float:
        """Quality whose rate-distortion weight is ``lmbda``, clamped to [0, TRAINED]."""
        low, high = math.log(self.lmbda_min), math.log(self.lmbda_max)
        return min(TRAINED, max(0.0, TRAINED * (math.log(lmbda) - low) / (high - low)))

    def stretched(self, quality: float) -> float:
        """The quality on the scale of ``lmbda``, in [0, highest], that a quality in [0, 100] stands
        for: itself up to STRETCHED_FROM, from there with a steady slope more and more."""
        beyond = max(0.0, quality - STRETCHED_FROM) / (100.0 - STRETCHED_FROM)
        return quality + (self.highest - TRAINED) * beyond**2

    def error_weight(self, quality: float) -> float:
        """Bits that the loss of a quality gives for a squared error of one sample in [0, 1]."""
        return self.lmbda(quality) * 255**2 / 3  # mse is a mean over three planes

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Inverse of ``to_dict``. Raises ConfigError on unknown or missing fields."""
        known = {field.name for field in fields(cls)}
        if unknown := set(values) - known:
            raise ConfigError(f"unknown model settings {sorted(unknown)}: made by a later version?")
        try:
            plain = dict(values)
            plain["vss"] = VSSConfig(**plain.get("vss", {}))
            for name in ("groups", "depths"):
                if name in plain:
                    plain[name] = tuple(plain[name])
            return cls(**plain)
        except TypeError as exc:
            raise ConfigError(f"model settings are incomplete or malformed: {exc}") from exc


_S = ModelConfig(
    name="s",
    context_span=32,
    coarse_to_fine=1,
    slices=4,
    slice_gates=24,
    fine_width=32,
    fine_levels=127,
    highest=130.0,
)

PRESETS: dict[str, ModelConfig] = {
    "unit": ModelConfig(
        name="unit",
        M=32,
        z_channels=8,
        groups=(8, 24),
        vss=VSSConfig(d_state=2),
        width8=16,
        width16=16,
        analysis8="r",
        analysis16="v",
        synthesis16="v",
        synthesis8="ra",
        context_width=16,
        context_blocks="va",
        context_span=8,
        coarse_to_fine=1,
        slices=2,
        slice_width=8,
        slice_gates=4,
        rate_anchors=3,
        fine_width=8,
        fine_levels=127,
        highest=130.0,
        halo=8,
    ),
    "s": _S,
    # more blocks and nothing else: it grows from trained weights of s (mambaic/models/growing.py)
    "b": replace(
        _S,
        name="b",
        analysis8="rrvrrvrrvrr",
        analysis16="vrvrvr",
        synthesis16="vrvrvr",
        synthesis8="rvrrvrrvrrvrr",
        context_blocks="vava",
    ),
    "paper": ModelConfig(
        name="paper",
        transform="conv",
        M=320,
        z_channels=192,
        groups=(64, 64, 64, 64, 64),
        vss=VSSConfig(d_state=16, expansion=2.0, ffn_expansion=2.0, lines="flat"),
        N=128,
        depths=(2, 2, 9, 2),
        context_width=512,
        context_blocks="vv",
        context_shared=False,
        lrp=True,
        halo=16,
    ),
}
