"""The training loop: one step, the schedule around it, and the state to resume it from."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mambaic.coding.tables import Tables
from mambaic.config import ModelConfig
from mambaic.errors import CheckpointError, ConfigError
from mambaic.imaging.atomic_files import taking_effect, unfinished
from mambaic.models.model import MambaIC
from mambaic.models.tuning import keep_shared, tuned_parameters
from mambaic.models.wavelet_transforms import WaveletTransform
from mambaic_train.batches import Batches, sent
from mambaic_train.config import TrainConfig
from mambaic_train.crops import Crops, to_input
from mambaic_train.data import Photos
from mambaic_train.distributed import World
from mambaic_train.graph import StepGraph
from mambaic_train.loss import draw_qualities, rate_distortion
from mambaic_train.optim import WeightAverage, learning_rate, make_optimiser
from mambaic_train.readings import Readings, StepReport, Taken

log = logging.getLogger(__name__)

STATE_FILE = "state.pt"
PLATEAU_FILE = "plateau.pt"  # the state before the learning rate fell: where more training begins


class Trainer:
    """Model, optimiser, average, random state and position of one run."""

    def __init__(
        self, model: MambaIC, config: TrainConfig, device: str = "cpu", world: World | None = None
    ) -> None:
        self.world = world or World()
        self.config = config
        self.device = torch.device(device)
        self.model = model.to(self.device).to(memory_format=torch.channels_last).train()
        rated_as_files = config.metric == "mse" and model.entropy_model.tables is not None
        if rated_as_files and isinstance(model.transform, WaveletTransform):
            # what training expects of other quantiser steps is a tenth of the loss from what they
            # do to files (docs/experiments/notebook.md, "What follows a residual"): they are kept
            model.transform.step.requires_grad_(False)
        # what weights for the eye are trained beside
        self.psnr: dict[str, Tensor] = {}
        if config.metric == "eye":
            self._open_eye()
        self.parameters = list(self.model.parameters())
        self.optimiser = make_optimiser(self.model, config)
        self.average = WeightAverage(self.model, config.ema)
        self.step = 0
        self.images = 0
        self.skipped = 0
        self.seconds = 0.0
        self.origin = (0, 0.0)  # step and seconds at which the present schedule began
        self._batches: Batches | None = None
        self.readings = Readings(self.device)
        self._graph: tuple[tuple[tuple[int, ...], bool], StepGraph] | None = None
        if config.cuda_graph and self.device.type != "cuda":
            raise ConfigError("a CUDA graph needs a CUDA device: give --no-cuda-graph")
        self.generator = torch.Generator().manual_seed(config.seed)
        torch.manual_seed(config.seed + self.world.rank)  # noise differs, images do not

    @torch.no_grad()
    def _open_eye(self) -> None:
        """Go on from the model's weights for the eye, or from its own."""
        if self.model.entropy_model.tables is None:
            raise ConfigError("weights for the eye are trained beside a model's own: give --init")
        keep_shared(self.model)
        for name, parameter in tuned_parameters(self.model).items():
            self.psnr[name] = parameter.detach().clone()
            if self.model.eye:
                parameter.copy_(self.model.eye[name])

    @property
    def progress(self) -> float:
        """Position in the schedule, 0 to 1."""
        step, seconds = self.origin
        if self.config.steps is not None:
            return (self.step - step) / self.config.steps
        assert self.config.minutes is not None
        return (self.seconds - seconds) / (60 * self.config.minutes)

    def restart(self) -> None:
        """Begin a new schedule here: weights, average and optimiser stay."""
        self.origin = (self.step, self.seconds)

    def run_step(self, photos: Photos) -> list[StepReport]:
        """One optimiser step; a non-finite gradient is counted and changes nothing. The report of
        the step, on a GPU of one some steps before: nothing waits for it."""
        started = time.perf_counter()
        config, progress = self.config, self.progress
        crop = config.large_crop if progress >= config.large_from else config.crop
        self.model.transform.networks = progress >= config.warm_entropy
        batch = config.batch_at(crop)
        share = self.world.share(batch)
        crops = self._crops(photos, batch, crop, share)
        q = draw_qualities(batch, self.model.config, config, self.generator)[share]
        x, q = to_input(crops, self.device), sent(q, self.device)
        of_crops = self._recorded if config.cuda_graph else self._gradients
        figures = of_crops(x, q, crops.rotations)
        self.world.average_gradients(self.parameters)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, config.clip)
        lr = learning_rate(config, progress, self.step - self.origin[0])
        self._change_weights(lr, torch.isfinite(norm).float())
        self.step += 1
        self.images += batch
        figures = self.world.mean(torch.cat([figures, norm[None]]))
        self.readings.put(Taken(self.step, lr, batch), figures)
        reports = self.reports()
        self.seconds += self.world.largest(time.perf_counter() - started)
        return reports

    def _change_weights(self, lr: float, finite: Tensor) -> None:
        """By the gradients and at the rate ``lr``, and not at all where ``finite`` () is 0."""
        for group in self.optimiser.param_groups:
            group["lr"] = lr * group["scale"]
        self.optimiser.found_inf = 1 - finite
        self.optimiser.step()
        self.average.update(self.step, finite)

    def reports(self, *, all_of_them: bool = False) -> list[StepReport]:
        """Of steps whose figures are there; ``all_of_them`` waits for the device."""
        found = self.readings.take(all_of_them=all_of_them)
        self.skipped += sum(report.skipped for report in found)
        return found

    def _gradients(self, x: Tensor, q: Tensor, rotations: Tensor) -> Tensor:
        """Leave gradients of the loss; return its mean, that of the bpp and of the squared error,
        (3,)."""
        with self.autocast():
            output = self.model(x, q)
        loss = rate_distortion(x, q, output, self.model.config, self.config, rotations)
        self.optimiser.zero_grad(set_to_none=True)
        loss.value.backward()
        return torch.stack([loss.value.detach(), loss.bpp.mean(), loss.mse.mean()])

    def _recorded(self, x: Tensor, q: Tensor, rotations: Tensor) -> Tensor:
        """``_gradients`` by a CUDA graph, recorded anew when crops or open branches change."""
        recording = (tuple(x.shape), self.model.transform.networks)
        if self._graph is None or self._graph[0] != recording:
            self._graph = None  # its memory is needed for the next one
            graph = StepGraph(self._gradients, self.parameters, x, q, rotations)
            self._graph = (recording, graph)
        return self._graph[1](x, q, rotations)

    def _crops(self, photos: Photos, count: int, size: int, share: slice) -> Crops:
        return self.batches_of(photos).get(self.step, count, size, share)

    def batches_of(self, photos: Photos) -> Batches:
        """Made once, as a GPU may hold the photographs."""
        if self._batches is None or self._batches.photos is not photos:
            self._batches = Batches(photos, self.config.seed, self.device)
        return self._batches

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.config.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    # -- state -------------------------------------------------------------------------------

    def save(self, folder: Path, name: str = STATE_FILE) -> None:
        """Write the state beside the old one, then replace it: a full disk loses nothing."""
        tables = self.model.entropy_model.tables
        state = {
            "model": self.model.state_dict(),
            "model_config": self.model.config.to_dict(),
            "train_config": self.config.to_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.values,
            "psnr": self.psnr,
            "tables": {} if tables is None else tables.tensors(),
            "position": [self.step, self.images, self.skipped, self.seconds],
            "origin": list(self.origin),
            "generator": self.generator.get_state(),
            "torch_rng": torch.get_rng_state(),
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with unfinished(folder / (name + ".part")) as part:
                torch.save(state, part)
                with taking_effect():
                    os.replace(part, folder / name)
        except (OSError, RuntimeError) as exc:  # torch's writer raises the second
            raise CheckpointError(f"{folder}: training state not written: {exc}") from exc

    @classmethod
    def resume(
        cls,
        folder: Path,
        config: TrainConfig | None,
        device: str = "cpu",
        world: World | None = None,
        name: str = STATE_FILE,
    ) -> Trainer:
        """Trainer of a saved state; ``config`` replaces the saved settings where given."""
        state = read_state(folder, name)
        model = MambaIC(ModelConfig.from_dict(state["model_config"]))
        model.load_state_dict(state["model"])
        if state.get("tables"):  # older states have none
            model.entropy_model.tables = Tables.from_tensors(state["tables"])
        trainer = cls(model, config or TrainConfig(**state["train_config"]), device, world)
        trainer.optimiser.load_state_dict(state["optimiser"])
        trainer.average.values = {n: v.to(trainer.device) for n, v in state["average"].items()}
        trainer.psnr = state.get("psnr", {})
        trainer.step, trainer.images, trainer.skipped, trainer.seconds = state["position"]
        trainer.origin = tuple(state["origin"])
        trainer.generator.set_state(state["generator"])
        if trainer.world.leads:
            torch.set_rng_state(state["torch_rng"])
        return trainer

    @contextlib.contextmanager
    def averaged(self, *, keep_tables: bool = False) -> Any:
        """The model with averaged weights, networks open, in eval mode. Tables are built from its
        mixture; for the eye they are kept, and those that there are with ``keep_tables``."""
        networks, tables = self.model.transform.networks, self.model.entropy_model.tables
        self.average.swap()
        self.model.eval()
        self.model.transform.networks = True
        if not self.psnr and not (keep_tables and tables is not None):
            self.model.entropy_model.update()
        try:
            yield self.model
        finally:
            self.model.entropy_model.tables = tables
            self.model.transform.networks = networks
            self.model.train()
            self.average.swap()


def read_state(folder: Path, name: str = STATE_FILE) -> dict[str, Any]:
    """Saved state of a run; read without executing code. Raises CheckpointError."""
    try:
        state = torch.load(folder / name, map_location="cpu", weights_only=True)
    except FileNotFoundError as exc:
        raise CheckpointError(f"{folder}: no training state to resume from") from exc
    except Exception as exc:
        raise CheckpointError(f"{folder / name}: unreadable training state: {exc}") from exc
    return dict(state)


def run(
    trainer: Trainer,
    data: Photos,
    *,
    time_limit_s: float | None,
    on_step: Callable[[StepReport], None],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train until the schedule, the time limit or ``stop`` ends it."""
    started = time.perf_counter()
    while trainer.progress < 1:
        late = time_limit_s is not None and time.perf_counter() - started > time_limit_s
        if trainer.world.largest(float(stop() or late)):
            break
        for report in trainer.run_step(data):
            on_step(report)
    for report in trainer.reports(all_of_them=True):
        on_step(report)
