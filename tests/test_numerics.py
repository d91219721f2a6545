"""The codec in somebody's process: same files and pictures whatever it has set, and nothing of that
changed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import torch
from conftest import photo_pixels
from forked import forks, in_child
from PIL import Image

from mambaic.checkpoint import load_model
from mambaic.codec import Codec
from mambaic.numerics import own_numerics

CHECKPOINT = Path(__file__).parent / "golden" / "v6" / "unit"
NEW_PRECISION = hasattr(torch.backends, "fp32_precision")


@contextmanager
def put(setting, value, before):
    setting(value)
    try:
        yield
    finally:
        setting(before)


def default_dtype(dtype):
    return lambda: put(torch.set_default_dtype, dtype, torch.float32)


def matmul_precision(name):
    return lambda: put(torch.set_float32_matmul_precision, name, "highest")


def fp32_precision(owner, name):
    return lambda: put(lambda value: setattr(owner, "fp32_precision", value), name, "none")


SETTINGS = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference": torch.inference_mode,
    "gradients": torch.enable_grad,
    "float64": default_dtype(torch.float64),
    "bfloat16": default_dtype(torch.bfloat16),
    "float16": default_dtype(torch.float16),
    "device-for-all": lambda: put(torch.set_default_device, "meta", None),
    "device-for-a-block": lambda: torch.device("meta"),
    "high": matmul_precision("high"),
    "medium": matmul_precision("medium"),
    "deterministic": lambda: put(torch.use_deterministic_algorithms, True, False),
    "no-denormals": lambda: put(torch.set_flush_denormal, True, False),
}
if NEW_PRECISION:
    SETTINGS["bf16-products"] = fp32_precision(torch.backends, "bf16")
    SETTINGS["bf16-convolutions"] = fp32_precision(torch.backends.mkldnn.conv, "bf16")


def all_at_once():
    names = ("autocast", "inference", "float16", "device-for-all", "medium", "no-denormals")
    stack = ExitStack()
    for name in names:
        stack.enter_context(SETTINGS[name]())
    return stack


SETTINGS["all"] = all_at_once


def caller():
    """What a caller sees of torch's settings."""
    precision = [torch.backends.cuda.matmul.fp32_precision] if NEW_PRECISION else []
    if NEW_PRECISION:
        mkldnn = torch.backends.mkldnn
        precision += [torch.backends.fp32_precision, mkldnn.conv.fp32_precision]
        precision += [mkldnn.matmul.fp32_precision]
    smallest = float.fromhex("0x1p-1022")
    return (
        torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device(), precision,
        torch.are_deterministic_algorithms_enabled(), smallest * 0.5 > 0.0,
        torch.get_num_threads(), torch.get_rng_state().tolist(),
    )  # fmt: skip


def picture(seed=0):
    return Image.fromarray(photo_pixels(40, 70, seed))


CODED = {  # every part of the codec: rotation, tiles, filter, refinement
    "one-tile": (picture(), {}),
    "refined-tiles": (picture(1), {"tile": 4, "workers": 2, "effort": 9}),
    "gray": (picture(2).convert("LA"), {}),
}


@pytest.fixture(scope="module")
def codec():
    return Codec(load_model(CHECKPOINT).requires_grad_(False))


@pytest.fixture(scope="module")
def expected(codec):
    files = {name: codec.encode(image, 70, **how) for name, (image, how) in CODED.items()}
    return {name: (data, codec.decode(data).tobytes()) for name, data in files.items()}


@pytest.mark.parametrize("setting", SETTINGS)
def test_files_and_pictures_are_the_same_whatever_is_set(codec, expected, setting):
    with SETTINGS[setting]():
        before = caller()
        found = {}
        for name, (image, how) in CODED.items():
            data = codec.encode(image, 70, **how)
            codec.verify(data)
            found[name] = data, codec.decode(data).tobytes()
        assert caller() == before
    assert found == expected


@pytest.mark.parametrize("setting", ["inference", "float64", "float16", "device-for-all", "all"])
def test_a_codec_loaded_and_first_used_under_a_setting_works_for_good(expected, setting):
    with SETTINGS[setting]():
        before = caller()
        codec = Codec(load_model(CHECKPOINT).requires_grad_(False))
        assert caller() == before
        inside = codec.encode(picture(), 70)
    assert inside == codec.encode(picture(), 70) == expected["one-tile"][0]
    assert {t.dtype for t in codec.model.parameters()} == {torch.float32}


def test_a_model_made_in_inference_mode_codes(expected):
    with torch.inference_mode():
        model = load_model(CHECKPOINT)
        tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(tensors, assign=True)
    assert all(torch.is_inference(p) for p in model.parameters())
    assert Codec(model).encode(picture(), 70) == expected["one-tile"][0]


def test_errors_leave_the_settings(codec):
    with all_at_once():
        before = caller()
        with pytest.raises(Exception, match="none of an image"):  # noqa: SIM117
            with own_numerics():
                raise ValueError("none of an image")
        assert caller() == before


def test_threads_code_at_once_and_the_last_puts_settings_back(codec):
    images = [picture(seed) for seed in range(4)]
    alone = [codec.encode(image, 60) for image in images]
    seen = [codec.decode(data).tobytes() for data in alone]

    def work(index):
        with torch.inference_mode(index % 2 == 0), torch.autocast("cpu", torch.bfloat16):
            data = codec.encode(images[index], 60)
            return data, codec.decode(data).tobytes()

    with SETTINGS["medium"]():
        before = caller()
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(work, range(4))) == list(zip(alone, seen, strict=True))
        assert caller() == before


def test_settings_of_the_process_last_as_long_as_any_thread_codes():
    entered, leave = threading.Event(), threading.Event()

    def first():
        with own_numerics():
            entered.set()
            leave.wait(10)

    with SETTINGS["medium"]():
        thread = threading.Thread(target=first)
        thread.start()
        entered.wait(10)
        with own_numerics():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "highest"
        leave.set()
        thread.join()
        assert torch.get_float32_matmul_precision() == "medium"


def test_the_default_dtype_of_other_threads_is_never_touched(codec):
    """It is the whole process's: a caller that computes in float64 meanwhile must not see ours."""
    seen = set()
    with SETTINGS["float64"](), ThreadPoolExecutor(1) as pool:
        coding = pool.submit(codec.encode, picture(), 70)
        while not coding.done():
            seen.add(torch.zeros(1).dtype)
    assert seen == {torch.float64}


@pytest.fixture
def two_threads():
    """A parent that has computed with two of OpenMP's threads, which no fork copies."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    a = torch.ones(1 << 20)
    assert (a + a).sum() == 1 << 21
    yield
    torch.set_num_threads(before)


@forks
def test_a_forked_child_codes(codec, expected, two_threads):
    data, pixels = expected["one-tile"]

    def task():
        found = codec.encode(picture(), 70), codec.decode(data).tobytes()
        return found, torch.get_num_threads()

    assert in_child(task) == ((data, pixels), 2)
