"""Training for the eye: its loss, and what it changes and what it leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_model, photo_like, photo_pixels
from PIL import Image
from pytorch_msssim import ms_ssim

from mambaic.checkpoint import load_model, read_config, save_model
from mambaic.config import PRESETS
from mambaic.errors import ConfigError
from mambaic.imaging import ssimulacra2
from mambaic.models.model import MambaIC, TrainOutput
from mambaic.models.tuning import tuned_parameters
from mambaic.reconstruction.rotation import matrix
from mambaic_cli.main import main
from mambaic_train import eye
from mambaic_train.config import TrainConfig
from mambaic_train.data import PhotoSet
from mambaic_train.loop import Trainer
from mambaic_train.loss import rate_distortion
from mambaic_train.validate import RDPoint, score

CONFIG = TrainConfig(
    preset="unit", steps=3, batch=1, crop=192, large_crop=192, warmup_steps=1, metric="eye",
    weighting=0.0,
)  # fmt: skip


def noisy(x: torch.Tensor, deviation: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (x + deviation * torch.randn(x.shape, generator=generator)).clamp(0, 1)


def blurred(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(x, 5, stride=1, padding=2, count_include_pad=False)


@pytest.mark.parametrize(
    "change",
    [lambda x: noisy(x, 0.02), lambda x: noisy(x, 0.1), blurred, lambda x: 0.9 * x + 0.05],
    ids=["noise", "more-noise", "blur", "contrast"],
)
def test_score_is_that_of_the_metric_but_for_borders(change, monkeypatch):
    x = photo_like(128, 192)
    x_hat = change(x)
    monkeypatch.setattr(ssimulacra2, "_blur", eye._blur)
    expected = float(ssimulacra2.score(x[0], x_hat[0]))
    assert eye.score(x, x_hat).item() == pytest.approx(expected, abs=0.3)


def test_score_is_of_each_picture_of_a_batch():
    x = torch.cat([photo_like(128, 128, seed) for seed in range(2)])
    x_hat = torch.cat([x[:1], noisy(x[1:], 0.05)])
    both = eye.score(x, x_hat)
    assert both[0] > 99
    assert both[1] == pytest.approx(eye.score(x[1:], x_hat[1:]).item(), abs=1e-3)


@pytest.mark.parametrize("deviation", [0.0, 0.05])
def test_gradient_is_finite_and_points_to_the_picture(deviation):
    x = photo_like(192, 192)
    x_hat = noisy(x, deviation).requires_grad_()
    eye.score(x, x_hat).sum().backward()
    assert x_hat.grad is not None
    assert x_hat.grad.isfinite().all()
    if deviation:
        better = x_hat.detach() + 0.2 * (x - x_hat.detach())
        assert (x_hat.grad * (better - x_hat.detach())).sum() > 0


def test_loss_is_of_the_picture_in_its_own_colours():
    """However a crop is rotated, its loss is the same."""
    model = PRESETS["unit"]
    x = photo_like(192, 192) * 0.5 + 0.25
    x_hat = noisy(x, 0.05)
    rotation = torch.from_numpy(matrix(np.radians([20.0, 5.0, -8.0]))).float()[None]
    rotated = [torch.einsum("ndc,nchw->ndhw", rotation, of - 0.5) + 0.5 for of in (x, x_hat)]
    q = torch.tensor([50.0])

    def loss(x, x_hat, *rotations):
        output = TrainOutput(x_hat, torch.zeros(1), None)
        return rate_distortion(x, q, output, model, CONFIG, *rotations).value.item()

    assert loss(*rotated, rotation) == pytest.approx(loss(x, x_hat), rel=1e-3)
    assert loss(*rotated) != pytest.approx(loss(x, x_hat), rel=1e-3)


def test_files_are_scored_by_what_was_trained_for():
    model = PRESETS["unit"]
    x = photo_like(192, 192)
    x_hat = noisy(x, 0.05)
    output = TrainOutput(x_hat, torch.zeros(1), None)
    q = model.quality_of(0.0067)
    loss = rate_distortion(x, torch.tensor([q]), output, model, CONFIG)
    psnr_db = -10 * torch.log10(loss.mse).item()
    seen = eye.score(x, x_hat).item()
    alike = ms_ssim(x_hat, x, data_range=1.0).item()
    point = RDPoint(q, 0.0, 0.0, psnr_db, alike, seen)
    assert score([point], model, CONFIG) == pytest.approx(loss.value.item(), rel=1e-4)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for index in range(2):
        Image.fromarray(photo_pixels(208, 224, index)).save(folder / f"{index}.png")
    return folder


def test_only_what_the_eye_has_of_its_own_is_trained(photos):
    model = make_model(PRESETS["unit"]).requires_grad_(True)
    own = set(tuned_parameters(model))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = Trainer(model, CONFIG)
    data = PhotoSet([photos], min_side=64)
    for _ in range(2):
        (report,) = trainer.run_step(data)
        assert not report.skipped
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed <= own
    for name in ("transform.step.values", "transform.analysis.out.weight"):
        assert name in changed
    assert any(name.startswith("transform.synthesis") for name in changed)
    assert any(name.endswith("typical.values") for name in changed)


def test_a_model_without_tables_has_no_eye_to_train():
    with pytest.raises(ConfigError, match="--init"):
        Trainer(MambaIC(PRESETS["unit"]), CONFIG)
    with pytest.raises(ConfigError, match="192"):
        replace(CONFIG, crop=128)


@pytest.mark.filterwarnings("ignore")
def test_run_leaves_the_weights_for_psnr_and_goes_on_from_those_for_the_eye(
    photos, tmp_path, capsys
):
    save_model(make_model(PRESETS["unit"]), tmp_path / "unit")
    out = tmp_path / "run"
    arguments = ["train", "--data", str(photos), "--batch", "1", "--crop", "192"]
    first = [*arguments, "--init", str(tmp_path / "unit"), "--metric", "eye", "--out", str(out)]
    assert main([*first, "--steps", "2"]) == 0
    made = read_config(out / "checkpoint")
    assert made["weights_id"] == read_config(tmp_path / "unit")["weights_id"]
    model = load_model(out / "checkpoint")
    assert any(
        not torch.equal(parameter, model.eye[name])
        for name, parameter in tuned_parameters(model).items()
    )
    assert main([*arguments, "--out", str(out), "--resume", "--restart", "--steps", "1"]) == 0
    resumed = read_config(out / "checkpoint")
    assert resumed["weights_id"] == made["weights_id"]
    assert resumed["extensions"] != made["extensions"]
    # fine-tuning trains what compress uses of the new checkpoint by default
    again = [*arguments, "--init", str(out / "checkpoint"), "--steps", "1"]
    assert main([*again, "--out", str(tmp_path / "tuned")]) == 0
    tuned = read_config(tmp_path / "tuned/checkpoint")
    assert tuned["weights_id"] == made["weights_id"]
    assert tuned["extensions"] != resumed["extensions"]
    # and says so where it does not
    capsys.readouterr()
    assert main([*again, "--metric", "mse", "--out", str(tmp_path / "psnr")]) == 0
    assert "--tune psnr" in capsys.readouterr().out
    # another run goes on from the eye's weights, not from those for PSNR
    trainer = Trainer(load_model(out / "checkpoint"), CONFIG)
    eye_weights = load_model(out / "checkpoint").eye
    for name, parameter in tuned_parameters(trainer.model).items():
        assert torch.equal(parameter, eye_weights[name])
