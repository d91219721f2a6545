"""Training of networks that were added to trained weights: finest colours, and small scales.

All other weights stay as they are, so what these networks see is made once: crops, coded by the
model at qualities around those from where they matter, and up to the highest. Training on it takes
minutes (docs/training.md, "Finest colours").
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from mambaic import checkpoint
from mambaic.coding.estimator import Estimator, TableEstimator
from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import Site
from mambaic.coding.step_coder import PriorOf, StepCoder
from mambaic.config import PRESETS
from mambaic.entropy_model.colour_blocks import PER_LATENT, WORTH
from mambaic.entropy_model.fine_colour import CODED, NAMES, FineColour, Level
from mambaic.entropy_model.finer import HIGHEST, KNOT_STEP, KNOTS, ONSET, FinerCoder
from mambaic.entropy_model.walk import FineNetworks
from mambaic.errors import ConfigError
from mambaic.fixed_point.twin import measuring
from mambaic.models.growing import grow
from mambaic.models.model import MambaIC
from mambaic.models.wavelet_transforms import WaveletTransform
from mambaic.nn.gains import log_fineness
from mambaic_train.batches import draw_crops
from mambaic_train.config import TrainConfig
from mambaic_train.crops import Crops, to_input
from mambaic_train.data import Photos, PhotoSet, rotate_as_encoded
from mambaic_train.optim import WeightAverage, learning_rate

CROP = 256  # pixels along the side of a crop
PART = 8  # latents along the side of what a step sees of one
FROM = 60.0  # the least quality of a crop
SHRUNK = 0.8  # share of crops that are made smaller first: colours of photographs are soft
SHRINKING = (2.0, 3.0)  # by how much
BATCH = 6
MEASURED = 50  # samples that the reaches of layers are taken from
LEAST_COUNT = 30.0  # latents of a channel that its own correction is worth


class Sample(NamedTuple):
    """A crop at a stretched quality: what is known of its finest colours, and what they are."""

    quality: float
    known: dict[int, Level]
    missed: dict[int, Tensor]

    def part(self, row: int, column: int) -> Sample:
        """PART x PART latents of it."""

        def cut(of: Tensor, level: int) -> Tensor:
            factor = PER_LATENT[level]
            rows, columns = (slice(factor * at, factor * (at + PART)) for at in (row, column))
            return of[..., rows, columns]

        known = {lv: Level(*(cut(part, lv) for part in of)) for lv, of in self.known.items()}
        return Sample(self.quality, known, {lv: cut(of, lv) for lv, of in self.missed.items()})


class ScaleCount:
    """Squared residuals of y by channel and predicted scale, where that is small."""

    BINS = 4 * KNOTS  # four to a knot

    def __init__(self, channels: int) -> None:
        self.squares = torch.zeros(channels, self.BINS, dtype=torch.float64)
        self.counts = torch.zeros_like(self.squares)

    def add(self, site: Site, prior: Prior, y: Tensor) -> None:
        """Those of a site, of latents y (1, M, h, w)."""
        place = ((HIGHEST - prior.log_scale) * 4 / KNOT_STEP).floor()
        small = (place >= 0) & (place < self.BINS)
        channel = torch.arange(site.channels.start, site.channels.stop).expand_as(place)
        where = (channel * self.BINS + place.long())[small]
        squares = (site.take(y) - prior.mean)[small].double().square()
        self.squares.view(-1).index_add_(0, where, squares)
        self.counts.view(-1).index_add_(0, where, torch.ones_like(squares))

    def offsets(self) -> Tensor:
        """Of ``SmallScales``: (channels, KNOTS), by least squares, towards those of all channels
        where a channel has few latents."""
        centre = HIGHEST - (torch.arange(self.BINS) + 0.5) * KNOT_STEP / 4
        place = (HIGHEST - centre) / KNOT_STEP
        hats = (1 - (place[:, None] - torch.arange(1, KNOTS + 1)).abs()).clamp(min=0).double()
        total = _offsets(self.squares.sum(0), self.counts.sum(0), hats, centre, None)
        rows = zip(self.squares, self.counts, strict=True)
        return torch.stack([_offsets(*row, hats, centre, total) for row in rows]).float()


def _offsets(
    squares: Tensor, counts: Tensor, hats: Tensor, centre: Tensor, towards: Tensor | None
) -> Tensor:
    ideal = 0.5 * torch.log((squares + 1e-12) / counts.clamp(min=1)) - centre
    ideal = torch.where(counts > 0, ideal, torch.zeros_like(ideal)).clamp(-2, 2)
    ridge = LEAST_COUNT * torch.eye(KNOTS, dtype=torch.float64)
    pull = torch.zeros(KNOTS, dtype=torch.float64) if towards is None else ridge @ towards
    gram = hats.T @ (counts[:, None] * hats) + ridge
    return torch.linalg.solve(gram, hats.T @ (counts * ideal) + pull)


class _Counting(StepCoder):
    """Passes a walk on to ``coder``; counts what is coded more finely than networks know."""

    def __init__(self, coder: FinerCoder, counts: ScaleCount, y: Tensor) -> None:
        self._coder, self._counts, self._y = coder, counts, y

    def code(self, sites: Sequence[Site], prior_of: PriorOf) -> list[Tensor]:
        def counted(values: Sequence[Tensor]) -> Prior:
            prior = prior_of(values)
            site = sites[len(values)]
            if site.latent == "y":
                self._counts.add(site, prior, self._y)
            return prior

        return self._coder.code(sites, counted)

    def _code_sub_group(self, site: Site, prior: Prior) -> Tensor:
        raise AssertionError("the coder inside codes")


@torch.no_grad()
def collect(model: MambaIC, x: Tensor, quality: float, counts: ScaleCount) -> Sample:
    """The sample of a crop x (1, 3, H, W) at a stretched quality."""
    transform, entropy_model = model.transform, model.entropy_model
    assert isinstance(transform, WaveletTransform)
    assert entropy_model.fine is not None
    q = torch.tensor([quality])
    y, finer = model.g_a(x, q, beyond=True), log_fineness(model.config, q)
    latents = {"y": y * torch.exp(finer), "z": entropy_model.h_a(y, q)}
    estimator = Estimator(latents, entropy_model.mixture())
    coder = FinerCoder(estimator, finer, entropy_model.fine.scales)
    size = (y.shape[-2] // 4, y.shape[-1] // 4)
    counted = float(finer) > 1 / ONSET
    watched = _Counting(coder, counts, y) if counted else coder
    # the walk is to see qualities that it knows, as the coder has been made finer already
    y_hat = entropy_model.walk(size, q.clamp(max=100.0), watched)
    known = transform.known_colours(y_hat, quality, 0.0)
    missed = transform.finest_colours(x - model.g_s(y_hat, q), quality)
    return Sample(
        quality,
        {level: Level(*(part.half() for part in of)) for level, of in known.items()},
        {level: missed[NAMES[level]].half() for level in CODED},
    )


def draw_crop(photos: Photos, rng: np.random.Generator) -> Tensor:
    """(1, 3, CROP, CROP), most of them made smaller."""
    factor = rng.uniform(*SHRINKING) if rng.random() < SHRUNK else 1.0
    crops = draw_crops(photos, 1, round(CROP * factor), rng)
    if factor > 1:
        image = Image.fromarray(crops.pixels[0].permute(1, 2, 0).numpy())
        shrunk = np.array(image.resize((CROP, CROP), Image.Resampling.LANCZOS))
        crops = Crops(torch.from_numpy(shrunk).permute(2, 0, 1)[None], crops.rotations)
    return to_input(crops)


def fit(
    networks: FineColour, samples: Sequence[Sample], model: MambaIC, config: TrainConfig
) -> None:
    """Train ``networks`` on ``samples``; they end at the average of their weights."""
    optimiser = torch.optim.AdamW(
        networks.parameters(), lr=config.lr, betas=(0.9, 0.98), weight_decay=0.0
    )
    average = WeightAverage(networks, config.ema)
    rng = np.random.default_rng(config.seed)
    mixture = model.entropy_model.mixture()
    started, step, progress = time.perf_counter(), 0, 0.0
    bar = tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed}{postfix}")
    while progress < 1:
        last = CROP // 16 - PART + 1
        chosen = rng.integers(0, (len(samples), last, last), (BATCH, 3))
        q, known, missed = _batch([samples[i].part(row, column) for i, row, column in chosen])
        estimator = TableEstimator(missed, mixture)
        decoded = networks.walk(known, q, estimator)
        errors = [(missed[name] - of).square().flatten(1).sum(1) for name, of in decoded.items()]
        cost = (estimator.bits() + WORTH * torch.stack(errors).sum(dim=0)) / (16 * PART) ** 2
        # high rates would swamp the others
        loss = (cost / (cost.detach().sqrt() + 0.3)).mean()
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(networks.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(config, progress, step)
        if torch.isfinite(norm):
            optimiser.step()
            average.update(step)
        step += 1
        spent = (time.perf_counter() - started) / 60
        progress = step / config.steps if config.steps else spent / (config.minutes or 1.0)
        bar.n = min(100, round(100 * progress))
        bar.set_postfix_str(f"step {step} {float(cost.detach().mean()):.3f}")
    bar.close()
    average.swap()


@torch.no_grad()
def measure(fine: FineNetworks, samples: Sequence[Sample], model: MambaIC) -> None:
    """Set the reaches of the layers to what ``samples`` show."""
    reaches = fine.get_buffer("reaches")
    reaches.zero_()
    with measuring(fine, reaches):
        for sample in samples[:MEASURED]:
            q, known, missed = _batch([sample])
            fine.colour.walk(known, q, Estimator(missed, model.entropy_model.mixture()))


def _batch(parts: Sequence[Sample]) -> tuple[Tensor, dict[int, Level], dict[str, Tensor]]:
    """Qualities, what is known and what is missed, as ``FineColour.walk`` takes them."""
    q = torch.tensor([part.quality for part in parts])
    known: dict[int, Level] = {}
    missed: dict[str, Tensor] = {}
    for level in CODED:
        of_parts = zip(*(part.known[level] for part in parts), strict=True)
        known[level] = Level(*(torch.cat(of).float() for of in of_parts))
        missed[NAMES[level]] = torch.cat([part.missed[level] for part in parts]).float()
    return q, known, missed


def train_fine(init: str, data: Sequence[Path], out: Path, config: TrainConfig, crops: int) -> None:
    """Write to ``out`` the checkpoint ``init`` with networks for the finest colours and small
    scales, trained on from its own, if it has some, on so many ``crops`` of the photographs
    ``data``. Nothing else of it changes.

    Raises ConfigError for an ``out`` that exists and for presets without such networks.
    """
    if out.exists():
        raise ConfigError(f"{out} exists: give another --out")
    model = checkpoint.load_model(init)
    preset = PRESETS.get(model.config.name)
    if preset is None or not preset.fine_width:
        raise ConfigError(f"preset {model.config.name} has no networks for the finest colours")
    torch.manual_seed(config.seed)
    if not model.config.fine_width:
        model = grow(model, preset).eval()
    model.requires_grad_(False)
    photos = PhotoSet(tuple(data), min_side=CROP)
    rotate_as_encoded(photos, model)
    counts = ScaleCount(model.config.M)
    samples = list(_samples(model, photos, counts, crops, config.seed))
    fine = model.entropy_model.fine
    assert fine is not None
    fine.scales.offsets.copy_(counts.offsets())
    fit(fine.colour.requires_grad_(True), samples, model, config)
    measure(fine, samples, model)
    checkpoint.save_model(model, out, checkpoint.read_config(init)["card"])


def _samples(
    model: MambaIC, photos: Photos, counts: ScaleCount, crops: int, seed: int
) -> Iterator[Sample]:
    rng = np.random.default_rng(seed)
    for _ in tqdm(range(crops), "crops coded", unit="crop"):
        quality = float(rng.uniform(FROM, model.config.highest))
        yield collect(model, draw_crop(photos, rng), quality, counts)
