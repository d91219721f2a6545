"""Fixtures shared by all tests: one small random model, and pictures made from numbers."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from mambaic.checkpoint import save_model
from mambaic.config import PRESETS, ModelConfig
from mambaic.encoder.effort import EFFORTS
from mambaic.models.model import MambaIC
from mambaic.models.tuning import beside, tuned_parameters


def make_model(config: ModelConfig, seed: int = 0) -> MambaIC:
    """Random model with coding tables whose every branch is alive: an untrained one starts its
    networks at zero, and a test on zeros proves nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MambaIC(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim >= 2 and not parameter.any():
                    parameter.normal_(std=0.02)
    model.entropy_model.update()
    model.weights_id = b"unit"
    return model.eval().requires_grad_(False)


def with_eye(model: MambaIC) -> MambaIC:
    """The model with weights for the eye that differ a little from its own."""
    other = copy.deepcopy(model)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in tuned_parameters(other).values():
            noise = torch.randn(parameter.shape, generator=rng)
            parameter.add_(0.05 * parameter.abs().mean() * noise)
    return beside(other, model.state_dict())


@pytest.fixture(scope="session")
def eye_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a ``unit`` model with weights for the eye. Do not change it: it is shared."""
    folder = tmp_path_factory.mktemp("eye") / "unit"
    save_model(with_eye(make_model(PRESETS["unit"])), folder)
    return folder


@pytest.fixture(scope="session")
def unit_model() -> MambaIC:
    """Preset ``unit`` with random weights. Do not change it: it is shared."""
    return make_model(PRESETS["unit"])


@pytest.fixture
def private_unit_model() -> MambaIC:
    """A ``unit`` model of the test's own, free to be changed."""
    return make_model(dataclasses.replace(PRESETS["unit"]))


@pytest.fixture(params=[1, 2], ids=["1-thread", "2-threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """The test once with each number of torch's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def brief_refinement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Effort 9 refines for two steps."""
    monkeypatch.setitem(EFFORTS, 9, EFFORTS[9]._replace(refinement=2))


@pytest.fixture
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs begin and end with what a few crops tell, of wavelet and coding tables."""
    monkeypatch.setattr("mambaic_train.session.CALIBRATION_CROPS", 8)
    monkeypatch.setattr("mambaic_train.export.TABLE_BATCHES", 2)
    monkeypatch.setattr("mambaic_train.export.TABLE_CROPS", 2)
    monkeypatch.setattr("mambaic_train.average.BATCHES", 2)
    monkeypatch.setattr("mambaic_train.average.TABLE_CROPS", 2)


def photo_pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    """``photo_like`` as (height, width, 3) uint8."""
    x = photo_like(height, width, seed)[0]
    return (x.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def photo_like(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Image (1, 3, height, width) in [0, 1] with the falling spectrum of photographs."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :]
    falloff = 1 / np.maximum(np.hypot(fy, fx), 1 / max(height, width))
    planes = []
    shared = rng.normal(size=(height, width))
    for _ in range(3):
        noise = 0.8 * shared + 0.2 * rng.normal(size=(height, width))
        plane = np.fft.ifft2(np.fft.fft2(noise) * falloff).real
        planes.append(plane / (plane.std() + 1e-9) * 0.18 + 0.5)
    return torch.from_numpy(np.stack(planes)).float().clamp(0, 1)[None]
