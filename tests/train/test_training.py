"""The training engine: resumable to the bit, tolerant of bad data, the same over two processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import photo_like, photo_pixels
from PIL import Image

from mambaic import checkpoint, load
from mambaic.config import PRESETS
from mambaic.encoder.rotation_search import search
from mambaic.errors import CheckpointError, ConfigError
from mambaic.imaging.image import read_image
from mambaic.models.model import MambaIC, TrainOutput
from mambaic_cli.main import main
from mambaic_cli.train import Duration
from mambaic_train.batches import Batches, draw_crops
from mambaic_train.config import TrainConfig
from mambaic_train.crops import Crops, to_input
from mambaic_train.data import (
    ROTATION_QUALITY,
    Mixture,
    PhotoSet,
    machine_memory,
    rotate_as_encoded,
)
from mambaic_train.distributed import World
from mambaic_train.loop import PLATEAU_FILE, Trainer, read_state, run
from mambaic_train.loss import draw_qualities, rate_distortion
from mambaic_train.optim import learning_rate
from mambaic_train.session import _StopFlag
from mambaic_train.validate import rd_points, score, validation_pictures

pytestmark = pytest.mark.usefixtures("small_tables")
CONFIG = TrainConfig(preset="unit", steps=12, batch=4, crop=64, large_crop=64, warmup_steps=2)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for index in range(4):
        pixels = photo_pixels(96 + 8 * index, 128, index)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def data(photos):
    return PhotoSet([photos], min_side=64)


def new_trainer(config=CONFIG, world=None, tables=False):
    torch.manual_seed(0)
    model = MambaIC(PRESETS["unit"])
    if tables:
        model.entropy_model.update()
    return Trainer(model, config, world=world)


def losses(trainer, data, steps):
    reports = []
    run(
        trainer, data, time_limit_s=None, on_step=reports.append,
        stop=lambda: len(reports) >= steps,
    )  # fmt: skip
    return [report.loss for report in reports]


@pytest.mark.parametrize("tables", [False, True])
def test_resumed_run_is_the_same_to_the_bit(data, tmp_path, tables):
    whole = losses(new_trainer(tables=tables), data, 12)
    first = new_trainer(tables=tables)
    begun = losses(first, data, 5)
    first.save(tmp_path)
    torch.manual_seed(99)  # whatever the process did meanwhile
    rest = losses(Trainer.resume(tmp_path, None), data, 12)
    assert begun + rest == whole


@pytest.mark.parametrize(
    ("tables", "metric", "kept"),
    [(False, "mse", False), (True, "mse", True), (True, "ms-ssim", False)],
)
def test_quantiser_steps_are_kept_where_tables_price_the_rate(data, tables, metric, kept):
    config = replace(CONFIG, batch=1, crop=192, large_crop=192, metric=metric)
    trainer = new_trainer(config, tables=tables)
    steps = trainer.model.transform.step.values
    out = trainer.model.transform.analysis.out.weight
    before = steps.detach().clone(), out.detach().clone()
    losses(trainer, data, 2)
    assert torch.equal(steps, before[0]) == kept
    assert not torch.equal(out, before[1])


def test_loss_falls(data):
    config = replace(CONFIG, steps=30, warmup_steps=5)
    curve = losses(new_trainer(config), data, 30)
    assert np.mean(curve[-8:]) < 0.95 * np.mean(curve[:8])


def test_non_finite_step_is_skipped_and_counted(data):
    trainer = new_trainer()
    losses(trainer, data, 1)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    average = [value.clone() for value in trainer.average.values.values()]
    moments = [state["exp_avg"].clone() for state in trainer.optimiser.state.values()]
    handle = trainer.model.entropy_model.shape_logit.register_hook(lambda g: g * float("nan"))
    (report,) = trainer.run_step(data)
    handle.remove()
    assert report.skipped
    assert trainer.skipped == 1
    kept = (
        (before, trainer.model.parameters()),
        (average, trainer.average.values.values()),
        (moments, [state["exp_avg"] for state in trainer.optimiser.state.values()]),
    )
    for pair in kept:
        assert all(torch.equal(a, b) for a, b in zip(*pair, strict=True))
    (report,) = trainer.run_step(data)
    assert not report.skipped


def test_figures_that_are_read_some_steps_later_are_the_same(data):
    expected, reports = [], []
    run(new_trainer(), data, time_limit_s=None, on_step=expected.append)
    late = new_trainer()
    late.readings.lag = 3
    at_step = []
    run(
        late, data, time_limit_s=None,
        on_step=lambda report: (reports.append(report), at_step.append(late.step)),
    )  # fmt: skip
    assert reports == expected
    assert at_step == [4, 5, 6, 7, 8, 9, 10, 11, 12, 12, 12, 12]


def test_shares_of_a_batch_are_the_batch(data):
    whole = draw_crops(data, 6, 64, np.random.default_rng(3)).pixels
    parts = [
        draw_crops(data, 6, 64, np.random.default_rng(3), World(rank, 3).share(6)).pixels
        for rank in range(3)
    ]
    assert torch.equal(torch.cat(parts), whole)
    with pytest.raises(ConfigError, match="batch"):
        World(0, 4).share(6)


def test_batches_depend_on_seed_and_step_alone(data):
    everything = slice(None)
    one, other = Batches(data, 1), Batches(data, 1)
    in_order = [one.get(step, 3, 64, everything).pixels for step in range(4)]
    # not made in advance, and made in advance
    assert torch.equal(other.get(2, 3, 64, everything).pixels, in_order[2])
    assert torch.equal(other.get(3, 3, 64, everything).pixels, in_order[3])
    assert not torch.equal(in_order[2], in_order[3])
    assert not torch.equal(Batches(data, 2).get(2, 3, 64, everything).pixels, in_order[2])


@pytest.mark.parametrize("memory", [None, 100_000])
def test_crops_come_in_the_colours_that_an_encoder_would_see(photos, unit_model, memory):
    """Also those of a set that is streamed. None is decoded again for it."""
    turned = PhotoSet([photos], min_side=64, memory=memory)
    decoded = [image.pixels for image in turned.images]
    rotate_as_encoded(turned, unit_model)
    held = [image.pixels for image in turned.images]
    assert all(a is b for a, b in zip(decoded, held, strict=True))
    turned.seek(3)
    for image in turned.images:
        wavelet, config = unit_model.transform.wavelet, unit_model.config
        expected = search(wavelet, config, image.pixels, ROTATION_QUALITY).matrix
        np.testing.assert_allclose(image.rotation, expected, atol=1e-6)
    assert len({image.rotation.tobytes() for image in turned.images}) > 1
    crops = draw_crops(turned, 3, 64, np.random.default_rng(1))
    plain = Crops(crops.pixels, torch.eye(3).expand(3, 3, 3))
    lengths = [(to_input(of) - 0.5).square().sum(dim=1) for of in (crops, plain)]
    assert torch.allclose(*lengths, atol=1e-5)
    assert not torch.allclose(to_input(crops), to_input(plain), atol=0.01)


@pytest.mark.parametrize(("limit", "expected"), [("1000000\n", 250_000), ("max\n", None)])
def test_memory_is_that_of_the_container(tmp_path, monkeypatch, limit, expected):
    monkeypatch.setattr("mambaic_train.data.CONTAINER_LIMIT", tmp_path / "memory.max")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    unlimited = machine_memory()
    assert unlimited > 2**26
    (tmp_path / "memory.max").write_text(limit)
    assert machine_memory() == (expected or unlimited)


def test_set_larger_than_memory_is_streamed_and_resumes(photos, data):
    budget = data.bytes // 2
    stream = PhotoSet([photos], min_side=64, memory=budget)
    assert stream.streamed
    assert not data.streamed
    whole = {image.pixels.tobytes() for image in data.images}
    seen, windows = set(), []
    for step in range(12):
        stream.seek(step)
        held = [image.pixels.tobytes() for image in stream.images]
        assert set(held) <= whole
        assert sum(map(len, held)) <= 1.2 * budget
        seen |= set(held)
        windows.append(held)
    assert seen == whole
    late = PhotoSet([photos], min_side=64, memory=budget)
    late.seek(9)
    assert [image.pixels.tobytes() for image in late.images] == windows[9]
    late.seek(10)
    assert [image.pixels.tobytes() for image in late.images] == windows[10]


def test_mixture_draws_its_share(data, tmp_path):
    Image.new("RGB", (70, 70), (9, 9, 9)).save(tmp_path / "flat.png")
    flat = PhotoSet([tmp_path], min_side=64)
    crops = draw_crops(Mixture(data, flat, 0.3), 400, 64, np.random.default_rng(0)).pixels
    share = (crops == 9).flatten(1).all(1).float().mean()
    assert 0.2 < share < 0.4


def test_bad_images_are_skipped_with_a_count(photos, tmp_path):
    for file in photos.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 not a photograph")
    (tmp_path / "cut.png").write_bytes((photos / "0.png").read_bytes()[:900])
    Image.new("RGB", (20, 500)).save(tmp_path / "tiny.png")
    found = PhotoSet([tmp_path], min_side=64)
    assert (len(found), found.skipped) == (4, 3)


@pytest.mark.parametrize("kind", ["16-bit", "float", "cmyk", "turned", "alpha"])
def test_training_reads_what_a_codec_is_given(tmp_path, kind):
    pixels = photo_pixels(70, 90)
    if kind == "16-bit":
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / "x.png")
    elif kind == "float":
        Image.fromarray((pixels[..., 0] / 255).astype(np.float32)).save(tmp_path / "x.tif")
    elif kind == "cmyk":
        Image.fromarray(pixels).convert("CMYK").save(tmp_path / "x.jpg")
    elif kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    else:
        alpha = np.where(np.arange(90) > 40, 255, 0).astype(np.uint8)[None].repeat(70, 0)
        Image.fromarray(np.dstack([pixels, alpha])).save(tmp_path / "x.png")
    (path,) = tmp_path.iterdir()
    (seen,) = PhotoSet([tmp_path], min_side=64).images
    assert np.array_equal(seen.pixels, read_image(path).pixels)
    assert 20 < seen.pixels.mean() < 235


def test_tar_shards_hold_the_same_images(photos, data, tmp_path):
    import tarfile

    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for file in sorted(photos.iterdir()):
            archive.add(file, file.name)
    from_tar = PhotoSet([tmp_path / "a.tar"], min_side=64).images
    pairs = zip(from_tar, data.images, strict=True)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in pairs)
    (tmp_path / "b.tar").write_bytes(b"no tar")
    with pytest.raises(ConfigError, match=r"b\.tar"):
        PhotoSet([tmp_path / "b.tar"], min_side=64)


def test_empty_folder_and_wrong_checkpoint_are_named(tmp_path, photos, capsys):
    (tmp_path / "empty").mkdir()
    out = str(tmp_path / "run")
    assert main(["train", "--data", str(tmp_path / "empty"), "--out", out]) == 5
    assert "no usable training image" in capsys.readouterr().err
    assert main(["train", "--data", str(photos), "--out", out, "--init", "nowhere"]) == 5
    assert main(["train", "--data", str(photos), "--out", out, "--resume"]) == 5
    assert main(["train", "--data", str(photos), "--out", out, "--preset", "huge"]) == 5
    assert not (tmp_path / "run").exists()


def test_one_request_to_stop_may_arrive_twice_a_later_one_interrupts(monkeypatch):
    with _StopFlag() as flag:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert flag.asked
        monkeypatch.setattr("mambaic_train.session.SAME_SIGNAL_S", 0.0)
        time.sleep(0.01)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError(30, "Read-only file system"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
    ],
    ids=["full", "read-only", "full-in-torchs-writer"],
)
def test_a_disk_that_takes_no_more_keeps_the_previous_state(data, tmp_path, monkeypatch, error):
    trainer = new_trainer()
    trainer.save(tmp_path)
    before = (tmp_path / "state.pt").read_bytes()
    losses(trainer, data, 2)

    def full(state, path):
        Path(path).write_bytes(b"half")
        raise error

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match="training state not written"):
        trainer.save(tmp_path)
    assert (tmp_path / "state.pt").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]


def test_state_of_another_kind_is_refused_without_running_it(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'ran'}",))

    (tmp_path / "state.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError):
        Trainer.resume(tmp_path, None)
    assert not (tmp_path / "ran").exists()


def train(photos, out, *more):
    settings = ["--preset", "unit", "--batch", "4", "--crop", "64"]
    return main(["train", "--data", str(photos), "--out", str(out), *settings, *more])


@pytest.mark.filterwarnings("ignore")
def test_command_trains_resumes_restarts_and_exports(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mambaic_train.attendant.VALIDATIONS", 2)
    monkeypatch.setattr("mambaic_train.auto.TRIAL_S", 0.0)
    monkeypatch.setattr("mambaic_train.export.QUALITIES", (50.0,))
    monkeypatch.setattr("mambaic_train.export.QUICK_QUALITIES", (50.0,))
    out = tmp_path / "run"
    assert train(photos, out, "--steps", "6", "--valid", str(photos / "0.png")) == 0
    card = (out / "checkpoint" / "MODEL_CARD.md").read_text()
    assert "| steps | 6 |" in card
    assert "| quality | bpp |" in card
    best = checkpoint.read_config(out / "best")["card"]
    assert best["score"] > 0
    assert train(photos, out, "--steps", "6") == 5  # a run is there already
    more = ["--mix", str(photos), "--reduced", "0.1", "--auto", "--keep-every", "1s"]
    assert train(photos, out, "--resume", "--restart", "--steps", "3", *more) == 0
    assert "auto: 4 crops of 64 a step" in capsys.readouterr().out
    assert checkpoint.read_config(out / "checkpoint")["card"]["steps"] == 9
    assert checkpoint.read_config(out / "best")["card"] == best  # not measured: not replaced
    assert list((out / "tensorboard").iterdir())
    assert checkpoint.load_model(out / "checkpoint").entropy_model.tables is not None
    tuned = tmp_path / "tuned"
    more = ["--init", str(out / "checkpoint"), "--steps", "1"]
    assert main(["train", "--data", str(photos), "--out", str(tuned), *more]) == 0
    settings = checkpoint.read_config(tuned / "checkpoint")["card"]["train"]
    assert (settings["crop"], settings["batch"], settings["lr"]) == (256, 4, 1e-3)


def test_benchmark_times_every_layer_of_a_step(photos, capsys):
    arguments = ["--preset", "unit", "--batch", "2", "--crop", "64", "--device", "cpu"]
    assert main(["train", "--data", str(photos), "--benchmark", *arguments]) == 0
    printed = capsys.readouterr().out
    share = re.search(r"throughput of the step is (\d+) % of its convolutions'", printed)
    assert share
    assert int(share[1]) > 0
    assert "aten::convolution_backward" in printed


def test_lmbda_and_metric_decide_what_is_learned():
    config = PRESETS["unit"]
    fixed = replace(CONFIG, lmbda=0.0067, crop=192, large_crop=192)
    quality = draw_qualities(4, config, fixed, torch.Generator())
    assert [config.lmbda(q) for q in quality.tolist()] == pytest.approx([0.0067] * 4)

    x = photo_like(192, 192)
    bits = torch.tensor([0.25 * 192 * 192])
    brighter = (x + 0.02).clamp(0, 1)  # structure kept
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    noisy = (x + 0.02 * noise).clamp(0, 1)

    def distortion(x_hat, metric):
        train = replace(fixed, metric=metric, weighting=0.0)
        loss = rate_distortion(x, quality[:1], TrainOutput(x_hat, bits, None), config, train)
        assert loss.bpp.item() == pytest.approx(0.25)
        return loss.value.item() - 0.25

    mse = (noisy - x).square().mean().item()
    assert distortion(noisy, "mse") == pytest.approx(0.0067 * 255**2 * mse, rel=1e-4)
    ratio = distortion(brighter, "mse") / distortion(noisy, "mse")
    assert distortion(brighter, "ms-ssim") < 0.5 * ratio * distortion(noisy, "ms-ssim")


def test_learning_rate_warms_up_stays_and_falls():
    config = replace(CONFIG, lr=1.0, lr_end=0.1, cooldown=0.25)
    rates = [learning_rate(config, progress, 9) for progress in (0.0, 0.5, 0.75, 0.875, 1.0)]
    assert rates == pytest.approx([1.0, 1.0, 1.0, 0.55, 0.1])
    assert learning_rate(config, 0.0, 0) == 0.5
    assert learning_rate(replace(config, cooldown=1.0), 0.5, 9) == pytest.approx(0.55)


@pytest.mark.filterwarnings("ignore")
def test_a_new_schedule_begins_before_the_cooldown(photos, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(photos, out, "--steps", "8", "--cooldown", "0.5") == 0
    plateau = (out / "plateau.pt").read_bytes()
    assert read_state(out, PLATEAU_FILE)["position"][0] == 4
    assert train(photos, out, "--resume", "--restart", "--steps", "6", "--cooldown", "0.5") == 0
    assert "a new schedule from step 4 (plateau.pt)" in capsys.readouterr().out
    assert read_state(out)["position"][0] == 10
    assert read_state(out, PLATEAU_FILE)["position"][0] == 7
    assert (out / "plateau.pt").read_bytes() != plateau


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_fine_tuning_compresses_a_persons_photographs_better(tmp_path):
    """A folder of 20 pictures of a kind the shipped weights do not know, for some seconds: each is
    seen through a fine grid."""
    folder = tmp_path / "mine"
    folder.mkdir()
    grid = torch.ones(128, 128)
    grid[::5] = grid[:, ::5] = 0.3
    for index in range(20):
        pixels = (photo_like(128, 128, index)[0] * grid * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{index}.png")
    out = tmp_path / "run"
    arguments = ["--data", str(folder), "--init", "s", "--steps", "40", "--batch", "4"]
    assert main(["train", *arguments, "--metric", "mse", "--crop", "128", "--out", str(out)]) == 0
    pictures = validation_pictures(folder)[:6]
    scores = [
        score(rd_points(load(model), pictures, (20.0, 70.0)), PRESETS["s"], CONFIG)
        for model in ("s", out / "checkpoint")
    ]
    assert scores[1] < 0.97 * scores[0]


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp32")])
def test_precision_is_that_of_the_processor(photos, tmp_path, monkeypatch, native, precision):
    monkeypatch.setattr("mambaic_train.session.multiplies_bfloat16", lambda device: native)
    assert train(photos, tmp_path / "run", "--steps", "1") == 0
    card = checkpoint.read_config(tmp_path / "run" / "checkpoint")["card"]
    assert card["train"]["precision"] == precision


def torchrun(photos, out, processes, *more):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes),
        "--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0",
        "-m", "mambaic_cli", "train", "--data", str(photos), "--out", str(out), "--preset", "unit",
        "--batch", "4", "--crop", "64", "--precision", "fp32", *more,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def curve_of(out):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    return [event.value for event in events.Scalars("train/loss")]


def test_gradients_become_the_mean_of_all_processes(monkeypatch):
    """The other process has 10 wherever this one has a gradient."""

    def all_reduce(tensor, operation):
        assert operation == torch.distributed.ReduceOp.SUM
        tensor += 10

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (4,), (5,))]
    parameters[0].grad, parameters[2].grad = torch.arange(6.0).view(2, 3), torch.arange(5.0)
    World(0, 2).average_gradients(parameters)
    assert torch.equal(parameters[0].grad, torch.arange(6.0).view(2, 3) / 2 + 5)
    assert parameters[1].grad is None
    assert torch.equal(parameters[2].grad, torch.arange(5.0) / 2 + 5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_processes_learn_like_one(photos, tmp_path):
    """Same global batches; only the quantisation noise differs."""
    for processes in (1, 2):
        result = torchrun(photos, tmp_path / str(processes), processes, "--steps", "100")
        assert result.returncode == 0, result.stderr
    one, two = (curve_of(tmp_path / name) for name in ("1", "2"))
    assert len(one) == len(two) == 2  # steps 50 and 100
    assert two == pytest.approx(one, rel=0.03)
    states = [torch.load(tmp_path / n / "state.pt", weights_only=True) for n in ("1", "2")]
    assert states[0]["position"][:3] == states[1]["position"][:3]


@pytest.mark.filterwarnings("ignore")
def test_lost_worker_leaves_a_state_to_resume(photos, tmp_path):
    """The second process dies at its tenth step."""
    script = tmp_path / "dies.py"
    script.write_text(
        "import os, sys\n"
        "from mambaic_train import loop\n"
        "from mambaic_cli.main import main\n"
        "step = loop.Trainer.run_step\n"
        "def run_step(self, data):\n"
        "    if self.world.rank == 1 and self.step == 10:\n"
        "        os._exit(9)\n"
        "    return step(self, data)\n"
        "loop.Trainer.run_step = run_step\n"
        "sys.exit(main(['train', *sys.argv[1:]]))\n"
    )
    out = tmp_path / "run"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", str(script),
        "--data", str(photos), "--out", str(out), "--preset", "unit", "--batch", "4",
        "--crop", "64", "--steps", "1000",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert re.search("a worker was lost", result.stderr)
    assert train(photos, out, "--resume", "--restart", "--steps", "2") == 0
    assert checkpoint.read_config(out / "checkpoint")["card"]["steps"] == 12


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("25m", 1500), ("25", 1500), ("1.5h", 5400), ("0.5", 30)]
)
def test_time_limit_is_read_with_or_without_a_unit(text, seconds):
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "m", "ten", "-5m", "0", "nan", "inf"])
def test_time_limit_that_is_no_time_is_refused(text, photos, tmp_path, capsys):
    assert train(photos, tmp_path / "run", "--time-limit", text) == 2
    assert "90s" in capsys.readouterr().err
