"""What a run does beside its steps: progress, curves, validation, states and checkpoints."""

from __future__ import annotations

import sys
import time
from collections import deque
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from mambaic.extras import require
from mambaic_train.export import Exporter
from mambaic_train.loop import PLATEAU_FILE, Trainer
from mambaic_train.readings import StepReport

VALIDATIONS = 10  # over one schedule
SHOW_EVERY_S = 2.0


class Attendant:
    """Called with the report of every step. ``keep_every_s`` seconds it writes the state and a
    checkpoint, so that a run which is cut off loses no more."""

    def __init__(
        self, trainer: Trainer, exporter: Exporter, out: Path, keep_every_s: float
    ) -> None:
        require("train")
        from torch.utils.tensorboard import SummaryWriter

        self._trainer, self._exporter, self._out = trainer, exporter, out
        self._keep_every_s = keep_every_s
        self._recent: deque[StepReport] = deque(maxlen=100)
        self._writer = SummaryWriter(str(out / "tensorboard"))
        self._bar = tqdm(
            total=100.0, unit="%", file=sys.stderr, bar_format="{l_bar}{bar}| {elapsed}{postfix}"
        )
        self._kept = self._shown = time.perf_counter()
        self._images = 0
        self._cooling = trainer.progress >= trainer.config.plateau
        self._validated = int(VALIDATIONS * trainer.progress)

    def __enter__(self) -> Attendant:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()
        self._writer.close()

    def __call__(self, report: StepReport) -> None:
        self._recent.append(report)
        self._images += report.images
        if time.perf_counter() - self._shown >= SHOW_EVERY_S:
            self._show(report)
        if report.step % 50 == 0:
            for key in ("loss", "bpp", "psnr_db", "lr"):
                self._writer.add_scalar(f"train/{key}", getattr(report, key), report.step)
        validations = int(VALIDATIONS * self._trainer.progress)
        if self._exporter.pictures and self._validated < validations < VALIDATIONS:
            self._validated = validations
            self._validate(report)
        if not self._cooling and self._trainer.progress >= self._trainer.config.plateau:
            self._trainer.save(self._out, PLATEAU_FILE)
            self._cooling = True
        if time.perf_counter() - self._kept > self._keep_every_s:
            self._trainer.save(self._out)
            self._exporter.keep(self._trainer)
            self._kept = time.perf_counter()

    def _show(self, report: StepReport) -> None:
        trainer, count = self._trainer, len(self._recent)
        now, progress = time.perf_counter(), trainer.progress
        self._bar.n = min(100.0, round(100 * progress, 1))
        bpp, psnr = (sum(getattr(r, k) for r in self._recent) / count for k in ("bpp", "psnr_db"))
        spent = (trainer.seconds - trainer.origin[1]) / 60
        left = (1 - progress) / max(1e-9, progress) * spent
        self._bar.set_postfix_str(
            f"step {report.step} {self._images / (now - self._shown):.1f} images/s {bpp:.3f} bpp "
            f"{psnr:.2f} dB {left:.0f} min left"
        )
        self._shown, self._images = now, 0

    def _validate(self, report: StepReport) -> None:
        for point in self._exporter.write(self._trainer, final=False):
            for key in ("bpp", "psnr_db"):
                name = f"valid/{key}_q{point.quality:g}"
                self._writer.add_scalar(name, getattr(point, key), report.step)
