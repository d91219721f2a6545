"""``--auto``: what is chosen of what trials found, and that a run does not notice them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import photo_pixels
from PIL import Image

from mambaic.config import PRESETS
from mambaic.models.model import MambaIC
from mambaic_train import auto
from mambaic_train.config import TrainConfig
from mambaic_train.data import PhotoSet
from mambaic_train.distributed import World
from mambaic_train.loop import Trainer

CONFIG = TrainConfig(preset="unit", steps=9, batch=4, crop=64, large_crop=64, precision="fp32")


def trainer(device, config=CONFIG, world=None):
    """All that trials are told of one."""
    return SimpleNamespace(
        model=None,
        config=config,
        device=torch.device(device),
        world=world or World(),
        batches_of=lambda photos: photos,
    )


def chosen(monkeypatch, rate_of, device="cuda", given=(), **other):
    """(batch, precision, CUDA graph) of the choice, and how many trials there were."""
    tried = []

    def images_per_second(model, config, batches, device):
        tried.append(config)
        rate = rate_of(config)
        if isinstance(rate, Exception):
            raise rate
        return rate

    monkeypatch.setattr(auto, "images_per_second", images_per_second)
    config = auto.choose(trainer(device, **other), None, given)
    return (config.batch, config.precision, config.cuda_graph), len(tried)


def throughput(config):
    """Of a GPU that is full from 32 images on, and starts kernels slowly without a graph."""
    step_s = 0.1 + max(32, config.batch) / 320
    return config.batch / step_s * (2 if config.cuda_graph else 1)


def test_the_batch_is_doubled_while_it_pays(monkeypatch):
    assert chosen(monkeypatch, throughput) == ((256, "fp32", True), 10)
    assert chosen(monkeypatch, lambda config: 5.0) == ((4, "fp32", False), 4)


def test_what_is_given_stays(monkeypatch):
    given = ("batch", "cuda_graph")
    assert chosen(monkeypatch, throughput, given=given) == ((4, "fp32", False), 2)
    faster = lambda config: 2.0 if config.precision == "bf16" else 1.0  # noqa: E731
    assert chosen(monkeypatch, faster, given=given) == ((4, "bf16", False), 2)
    # no graph on a CPU
    assert chosen(monkeypatch, throughput, "cpu", given=("batch",)) == ((4, "fp32", False), 2)


def test_what_fails_is_said_and_not_chosen(monkeypatch, capsys):
    def rate_of(config):
        if config.batch > 16:
            return torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 9 GiB")
        return RuntimeError("no capture") if config.cuda_graph else throughput(config)

    assert chosen(monkeypatch, rate_of)[0] == (16, "fp32", False)
    printed = capsys.readouterr().out
    assert "4 crops of 64 a step, fp32, CUDA graph: RuntimeError: no capture\n" in printed
    assert "32 crops of 64 a step, fp32: OutOfMemoryError: CUDA out of memory.\n" in printed


def test_trials_end_in_time(monkeypatch):
    """A step takes 5 s for 4 images whatever is tried, so that two of its trials fit."""
    clock = iter(range(0, 10**6, 16))
    monkeypatch.setattr(auto.time, "perf_counter", lambda: float(next(clock)))
    _, count = chosen(monkeypatch, lambda config: 0.8)
    assert count == 1


def test_of_several_processes_each_makes_its_share(monkeypatch):
    monkeypatch.setattr(World, "largest", lambda self, value: value)
    _, count = chosen(monkeypatch, throughput, "cpu", world=World(0, 4))
    assert count > 2
    shares = []
    monkeypatch.setattr(
        auto, "images_per_second", lambda model, c, *of: shares.append(c.batch) or 1
    )
    auto.choose(trainer("cpu", world=World(0, 4)), None, ())
    assert shares == [1, 1, 2]


@pytest.mark.usefixtures("small_tables")
def test_a_run_does_not_notice_trials(tmp_path, monkeypatch):
    for index in range(3):
        Image.fromarray(photo_pixels(96, 80, index)).save(tmp_path / f"{index}.png")
    data = PhotoSet([tmp_path], min_side=64)
    monkeypatch.setattr(auto, "TRIAL_S", 0.0)
    losses = []
    for trials in (False, True):
        torch.manual_seed(0)
        one = Trainer(MambaIC(PRESETS["unit"]), CONFIG)
        if trials:
            config = auto.choose(one, data, ())
            assert config.batch >= CONFIG.batch
            assert replace(config, batch=4, precision="fp32") == CONFIG
        losses.append([report.loss for _ in range(2) for report in one.run_step(data)])
    assert losses[0] == losses[1]
