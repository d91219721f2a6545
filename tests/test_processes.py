"""One codec in several processes: pickled, copied, forked; and the devices it can be on."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from conftest import make_model, photo_pixels
from forked import forks, in_child
from PIL import Image

import mambaic
from mambaic import checkpoint
from mambaic.codec import Codec, decode, load, load_for
from mambaic.config import PRESETS
from mambaic.devices import pick_device
from mambaic.errors import CheckpointError, DeviceError
from mambaic.imaging import atomic_files
from mambaic_kernels import threads as kernel_threads

CHECKPOINT = Path(__file__).parent / "golden" / "v6" / "unit"


def picture():
    return Image.fromarray(photo_pixels(40, 70))


@pytest.fixture(scope="module")
def codec():
    return load(CHECKPOINT, "cpu")


@pytest.fixture(scope="module")
def data(codec):
    return codec.encode(picture(), 70)


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "4000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "")],
)
def test_waiting_threads_do_not_spin_unless_told_to(given, spins):
    """Beside another busy process nothing would go on. torch reads it when it is imported."""
    code = (
        "import os, sys, mambaic;"
        "print(os.environ.get('GOMP_SPINCOUNT', ''), 'torch' in sys.modules)"
    )
    known = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
    rest = {name: value for name, value in os.environ.items() if name not in known}
    done = subprocess.run(
        [sys.executable, "-c", code], env=rest | given, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"{spins} False".strip()


# -- pickling --------------------------------------------------------------------------------


def test_a_codec_is_pickled_by_its_checkpoint(codec, data):
    pickled = pickle.dumps(codec)
    assert len(pickled) < 1000  # no weights
    assert pickle.loads(pickled).encode(picture(), 70) == data


def test_a_shipped_codec_is_pickled_by_its_name(monkeypatch):
    """Its folder is another on the machine where it is unpickled."""
    monkeypatch.setattr(checkpoint, "shipped", lambda: {"tiny": CHECKPOINT})
    pickled = pickle.dumps(load("tiny", "cpu"))
    assert b"tiny" in pickled
    assert str(CHECKPOINT).encode() not in pickled


def _encode(codecs, found):
    found.put(codecs.get().encode(picture(), 70))


@pytest.mark.slow  # the child imports everything anew
def test_a_codec_goes_through_a_queue_to_a_fresh_process(codec, data):
    context = multiprocessing.get_context("spawn")
    codecs, found = context.Queue(), context.Queue()
    child = context.Process(target=_encode, args=(codecs, found), daemon=True)
    child.start()
    codecs.put(codec)
    assert found.get(timeout=300) == data
    child.join()


def test_a_copy_has_weights_of_its_own(codec, data):
    for original in (codec, Codec(codec.model)):
        copied = copy.deepcopy(original)
        assert copied.encode(picture(), 70) == data
        weights = zip(copied.model.parameters(), codec.model.parameters(), strict=True)
        assert all(ours.data_ptr() != theirs.data_ptr() for ours, theirs in weights)
    assert pickle.dumps(copy.deepcopy(codec)) == pickle.dumps(codec)


def test_a_codec_of_a_model_cannot_be_pickled(unit_model):
    with pytest.raises(CheckpointError, match="save the model"):
        pickle.dumps(Codec(unit_model))


def test_unpickling_needs_the_same_weights(tmp_path):
    folder = tmp_path / "weights"
    shutil.copytree(CHECKPOINT, folder)
    pickled = pickle.dumps(load(folder, "cpu"))
    checkpoint.save_model(make_model(PRESETS["unit"], seed=1), folder)
    with pytest.raises(CheckpointError, match="there has"):
        pickle.loads(pickled)
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        pickle.loads(pickled)


def test_a_folder_that_holds_new_weights_is_loaded_again(tmp_path):
    folder = tmp_path / "weights"
    shutil.copytree(CHECKPOINT, folder)
    before = load(folder, "cpu")
    assert load(folder, "cpu") is before
    checkpoint.save_model(make_model(PRESETS["unit"], seed=1), folder)
    assert load(folder, "cpu").model.weights_id != before.model.weights_id


# -- devices ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cpu", "cpu:0", torch.device("cpu"), torch.device("cpu", 0)])
def test_names_of_the_cpu(name):
    assert load(CHECKPOINT, name) is load(CHECKPOINT, "cpu")


@pytest.fixture
def two_gpus(monkeypatch):
    """A torch that says it has two GPUs, and uses none."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("auto", 1),
        ("cuda", 1),
        ("cuda:0", 0),
        (torch.device("cuda"), 1),
        (torch.device("cuda", 0), 0),
    ],
)
def test_names_of_gpus(two_gpus, name, index):
    assert pick_device(name) == torch.device("cuda", index)


@pytest.mark.parametrize(
    "name", ["cuda:2", "cuda:65536", "cuda:-1", "cuda:x", "gpu", "", "mps", "cpu:1", None, 0, [],
             torch.device("cuda", 7), torch.device("meta")],
)  # fmt: skip
def test_a_device_that_is_not_there_is_told_with_those_that_are(two_gpus, name):
    with pytest.raises(DeviceError, match="one of auto, cpu, cuda:0, cuda:1"):
        pick_device(name)


def test_every_entrance_takes_devices(monkeypatch, codec, data):
    monkeypatch.setattr(checkpoint, "shipped", lambda: {"tiny": CHECKPOINT})
    assert load_for(data, torch.device("cpu")) is load(CHECKPOINT, "cpu")
    expected = codec.decode(data).tobytes()
    assert decode(data, torch.device("cpu")).tobytes() == expected
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for entrance in (mambaic.load_for, mambaic.decode):
        with pytest.raises(DeviceError, match="no CUDA device"):
            entrance(data, "cuda:0")


def test_cuda_in_a_forked_child_is_a_device_error(two_gpus, monkeypatch, unit_model):
    def refuse():
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess.")

    codec = Codec(unit_model)
    codec.device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "init", refuse)
    for use in (lambda: pick_device("cuda:0"), lambda: codec.encode(picture())):
        with pytest.raises(DeviceError, match="spawn"):
            use()


# -- forks -----------------------------------------------------------------------------------


@forks
def test_a_forked_child_loads_and_decodes(codec, data):
    """After the parent has, with threads in its pool."""
    expected = codec.decode(data).tobytes()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        kernel_threads.run(lambda *block: None, [(0, 1), (1, 2)])

        def task():
            kernel_threads.run(lambda *block: None, [(0, 1), (1, 2)])
            fresh = load(str(CHECKPOINT / "config.json"), "cpu")
            return fresh.decode(data).tobytes(), Codec(fresh.model).encode(picture(), 70)

        assert in_child(task) == (expected, data)
    finally:
        torch.set_num_threads(threads)


@forks
def test_locks_that_threads_of_the_parent_hold_do_not_stop_a_child(data):
    """The thread that would release them is not in the child."""
    held, leave = threading.Event(), threading.Event()

    def hold():
        with (
            mambaic.codec._load_lock, kernel_threads._pool_lock, atomic_files._gate,
            mambaic.imaging.opening._open_lock,
        ):  # fmt: skip
            held.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)

    def task():
        kernel_threads.run(lambda *block: None, [(0, 1), (1, 2)])
        with atomic_files.taking_effect():
            file = photo_file()
        return load(CHECKPOINT, "cpu").encode(file, 70)

    try:
        assert in_child(task, timeout_s=30) == data
    finally:
        leave.set()
        thread.join()


def photo_file():
    import io

    file = io.BytesIO()
    picture().save(file, "PNG")
    return file.getvalue()


@forks
def test_a_child_leaves_what_its_parent_has_not_finished(tmp_path):
    with atomic_files.unfinished(tmp_path / "part") as part:
        part.write_bytes(b"half")
        in_child(lambda: atomic_files.end_all(1.0))
        assert part.read_bytes() == b"half"
