"""A recorded training step: on a GPU against the step itself, and what is around the recording
without one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import photo_pixels
from PIL import Image

import mambaic_train.graph as graph
from mambaic.config import PRESETS
from mambaic.errors import ConfigError
from mambaic.models.model import MambaIC
from mambaic_train.config import TrainConfig
from mambaic_train.data import PhotoSet
from mambaic_train.loop import Trainer

# crops grow and the networks open within these steps, so passes are recorded three times
CONFIG = TrainConfig(
    preset="unit", steps=12, batch=4, crop=64, large_crop=128, large_from=0.6, warm_entropy=0.3,
    warmup_steps=2, precision="fp32",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for index in range(3):
        Image.fromarray(photo_pixels(160, 144, index)).save(folder / f"{index}.png")
    return PhotoSet([folder], min_side=64)


def trained(data, device: str, *, recorded: bool) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses and weights; priced by tables, as noise would differ."""
    torch.manual_seed(0)
    model = MambaIC(PRESETS["unit"])
    model.entropy_model.update()
    trainer = Trainer(model, CONFIG, device)
    trainer.config = replace(CONFIG, cuda_graph=recorded)
    reports = [report for _ in range(12) for report in trainer.run_step(data)]
    reports += trainer.reports(all_of_them=True)
    return [report.loss for report in reports], model.state_dict()


def test_replays_are_the_steps(data, monkeypatch):
    """With a recording that runs the pass again and, as a graph does, writes where it wrote."""
    parameters = []
    original = graph.StepGraph.__init__

    def keep(self, step, of, *inputs):
        parameters[:] = of
        original(self, step, of, *inputs)

    recorded = []

    def record(run):
        filled = run()
        written = [p.grad for p in parameters]
        recorded.append(filled)

        def replay():
            filled.copy_(run())
            for parameter, place in zip(parameters, written, strict=True):
                if place is not None:
                    place.copy_(parameter.grad)
                parameter.grad = None

        return replay, filled

    monkeypatch.setattr(graph.StepGraph, "__init__", keep)
    monkeypatch.setattr(graph, "record", record)
    losses, weights = trained(data, "cpu", recorded=True)
    expected, expected_weights = trained(data, "cpu", recorded=False)
    assert len(recorded) == 3
    assert losses == expected
    for name, value in weights.items():
        assert torch.equal(value, expected_weights[name]), name


def test_graph_without_a_gpu_is_refused():
    with pytest.raises(ConfigError, match="--no-cuda-graph"):
        Trainer(MambaIC(PRESETS["unit"]), replace(CONFIG, cuda_graph=True), "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_graph_trains_as_the_steps_do(data):
    losses, _ = trained(data, "cuda", recorded=True)
    expected, _ = trained(data, "cuda", recorded=False)
    assert losses == pytest.approx(expected, rel=1e-3)
