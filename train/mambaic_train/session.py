"""A run as a person starts it: load, train with progress, validate, export, stop cleanly."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from mambaic import checkpoint
from mambaic.config import PRESETS
from mambaic.errors import ConfigError
from mambaic.extras import require
from mambaic.imaging.atomic_files import check_writable
from mambaic.models.growing import grow
from mambaic.models.model import MambaIC
from mambaic.nn.precision import multiplies_bfloat16
from mambaic_train.auto import choose
from mambaic_train.batches import draw_crops
from mambaic_train.config import TrainConfig
from mambaic_train.crops import to_input
from mambaic_train.data import Mixture, Photos, PhotoSet, rotate_as_encoded
from mambaic_train.distributed import WorkerLost, World, joined
from mambaic_train.export import LAST, Exporter
from mambaic_train.loop import PLATEAU_FILE, STATE_FILE, Trainer, read_state, run
from mambaic_train.readings import StepReport
from mambaic_train.validate import validation_pictures

log = logging.getLogger(__name__)

SAME_SIGNAL_S = 1.0  # a launcher passes on what its whole process group has been sent already
CALIBRATION_CROPS = 96


@dataclass(frozen=True)
class Request:
    """What the command line asked for; ``settings`` override fields of TrainConfig."""

    paths: tuple[Path, ...]
    out: Path
    preset: str | None = None  # None: of the run or checkpoint that is gone on with, else s
    init: str | None = None
    resume: bool = False
    restart: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    time_limit_s: float | None = None
    mix: tuple[Path, ...] = ()
    mix_share: float = 0.25
    reduced: float = 0.0  # share of crops from photographs made smaller
    memory_gb: float | None = None
    valid: Path | None = None
    keep_every_s: float = 300.0  # the state and a checkpoint
    auto: bool = False
    benchmark: bool = False
    device: str = "auto"


class _StopFlag:
    """Ctrl-C or SIGTERM asks the loop to stop after its step; a second one interrupts."""

    def __init__(self) -> None:
        self.asked = False
        self._since = 0.0

    def __enter__(self) -> _StopFlag:
        self._previous = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if kind is not None and issubclass(kind, WorkerLost):
            # torchrun's is on its way; the process ends by itself, and first says why
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.asked and now - self._since > SAME_SIGNAL_S:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self._since = True, now


def train(request: Request) -> int:
    """Train, then export the averaged weights to OUT/checkpoint. Returns the exit code.

    Raises ConfigError, CheckpointError, DeviceError, MissingPackage, or OutputError for a folder
    that cannot be written, before any training.
    """
    require("train")
    with joined(request.device) as (world, device):
        return _train(request, world, device)


def _train(request: Request, world: World, device: str) -> int:
    if not request.resume and (request.out / STATE_FILE).exists():
        raise ConfigError(f"{request.out} holds a run already: give --resume or another --out")
    config = _config(request, torch.device(device))
    if request.restart and not request.resume:
        raise ConfigError("--restart needs --resume: it begins a new schedule in an old run")
    if world.leads and not request.benchmark:
        check_writable(request.out / STATE_FILE)
    photos = _photos(request, world)
    if request.benchmark:
        from mambaic_train.benchmark import benchmark

        benchmark(photos, config, device, world)
        return 0
    pictures = validation_pictures(request.valid) if request.valid and world.leads else []
    trainer = _trainer(request, config, photos, device, world)
    rotate_as_encoded(photos, trainer.model)
    if request.auto:
        trainer.config = choose(trainer, photos, request.settings)
    exporter = Exporter(request.out, photos, request.paths + request.mix, pictures)
    started = time.time()
    with _StopFlag() as flag:
        try:
            _loop(trainer, photos, request, exporter, flag)
        except WorkerLost as exc:
            if world.leads:
                trainer.save(request.out)
            raise WorkerLost(f"{exc}; go on with --resume") from exc
    if not world.leads:
        return 0
    trainer.save(request.out)
    exporter.write(trainer, final=True)
    print(
        f"{trainer.step} steps in {trainer.seconds / 60:.1f} min ({time.time() - started:.0f} s in "
        f"this call), {trainer.skipped} steps skipped; checkpoint: {request.out / LAST}"
    )
    if trainer.model.eye and trainer.config.metric != "eye":
        print(
            "its weights for the eye are those of before, and compress uses them by default: "
            "give it --tune psnr, or go on with --metric eye"
        )
    return 0


def _photos(request: Request, world: World) -> Photos:
    memory = None if request.memory_gb is None else int(1e9 * request.memory_gb)
    settings: dict[str, Any] = {"min_side": 64, "memory": memory, "reduced": request.reduced}
    main = PhotoSet(request.paths, **settings)
    photos: Photos = main
    if request.mix:
        other = PhotoSet(request.mix, **settings)
        photos = Mixture(main, other, request.mix_share)
    if world.leads:
        held = f", {len(main.images)} at a time in memory" if main.streamed else ""
        print(
            f"{len(photos)} images, {main.bytes / 3e6:.0f} megapixels{held}, "
            f"{photos.skipped} skipped"
        )
    return photos


def _config(request: Request, device: torch.device) -> TrainConfig:
    if request.resume:
        saved = TrainConfig(**read_state(request.out)["train_config"])
        if request.preset not in (None, saved.preset):
            raise ConfigError(
                f"{request.out} is a run of preset {saved.preset}: to grow it, begin a new one by "
                f"--init {request.out / LAST} --preset {request.preset}"
            )
        settings = dict(request.settings)
        if request.restart:
            settings.setdefault("warm_entropy", 0.0)
        if "steps" in settings or "minutes" in settings:
            settings = {"steps": None, "minutes": None, **settings}
        return replace(saved, **settings)
    if request.preset not in (None, *PRESETS):
        raise ConfigError(f"preset {request.preset!r} is not one of {', '.join(PRESETS)}")
    trained = checkpoint.read_config(request.init)["model"]["name"] if request.init else "s"
    settings = {"preset": request.preset or trained, **request.settings}
    if "steps" not in settings and "minutes" not in settings:
        settings["minutes"] = (request.time_limit_s or 3600.0) / 60
    settings.setdefault("precision", "bf16" if multiplies_bfloat16(device) else "fp32")
    if request.init:
        # what is trained is what files of the new checkpoint use by default
        if settings["preset"] == trained and checkpoint.has_eye(request.init):
            settings.setdefault("metric", "eye")
        # a trained model moves little: a gentle rate keeps what it knows, and a short warm-up
        # leaves time to learn in a run of two minutes
        settings.setdefault("lr", 1e-3)
        settings.setdefault("warmup_steps", 20)
        if "crop" not in settings:  # small crops teach a trained model about borders
            settings["crop"] = 256
            settings.setdefault("batch", 4)
    else:
        settings.setdefault("warm_entropy", 0.05)
    if "crop" in settings:
        settings.setdefault("large_crop", settings["crop"])
    return TrainConfig(**settings)


def _trainer(
    request: Request, config: TrainConfig, photos: Photos, device: str, world: World
) -> Trainer:
    if request.resume:
        cooled = request.restart and (request.out / PLATEAU_FILE).exists()
        name = PLATEAU_FILE if cooled else STATE_FILE
        trainer = Trainer.resume(request.out, config, device, world, name)
        if request.restart:
            trainer.restart()
            if world.leads:
                print(f"a new schedule from step {trainer.step} ({name})")
        return trainer
    torch.manual_seed(config.seed)
    if request.init:
        model = checkpoint.load_model(request.init)
        if request.preset:
            model = grow(model, PRESETS[request.preset])
    else:
        import numpy as np

        model = MambaIC(PRESETS[config.preset])
        rng = np.random.default_rng(config.seed)
        model.calibrate(to_input(draw_crops(photos, CALIBRATION_CROPS, config.large_crop, rng)))
    return Trainer(model, config, device, world)


def _loop(
    trainer: Trainer, photos: Photos, request: Request, exporter: Exporter, flag: _StopFlag
) -> None:
    def go(on_step: Callable[[StepReport], None]) -> None:
        limit = request.time_limit_s
        run(trainer, photos, time_limit_s=limit, on_step=on_step, stop=lambda: flag.asked)

    if not trainer.world.leads:
        go(lambda report: None)
        return
    from mambaic_train.attendant import Attendant

    with Attendant(trainer, exporter, request.out, request.keep_every_s) as attendant:
        go(attendant)
