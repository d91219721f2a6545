"""Whatever happens to the cache of compiled kernels, they compute, and the log says why it took
longer."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path

import numba
import pytest

from mambaic_kernels import kernel_cache

SOURCE = "def seven(x):\n    return x * 7\n"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where numba keeps compiled functions during the test."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel_cache, "_said", set())
    return tmp_path / "cache"


@pytest.fixture
def seven(tmp_path, folder) -> Callable[[], object]:
    """The function as a new process would have it, not compiled yet."""
    file = tmp_path / "source.py"
    file.write_text(SOURCE)

    def fresh():
        spec = importlib.util.spec_from_file_location("source", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return kernel_cache.enable_cache(numba.njit(module.seven))

    return fresh


def hits(function) -> int:
    return sum(function.stats.cache_hits.values())


def test_compiled_function_is_kept(seven, caplog):
    assert seven()(6) == 42
    again = seven()
    assert again(6) == 42
    assert hits(again) == 1
    assert not caplog.records


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "one bit"])
def test_damaged_file_is_compiled_anew_and_mended(seven, folder, caplog, suffix, damage):
    assert seven()(6) == 42
    (file,) = folder.rglob(f"*{suffix}")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    changed = {"empty": b"", "cut": data[:100], "zeros": bytes(len(data)), "one bit": data}
    file.write_bytes(changed[damage])
    met = seven()
    assert met(6) == 42
    assert hits(met) == 0
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(file) in caplog.text
    mended = seven()
    assert mended(6) == 42
    assert hits(mended) == 1


def test_full_disk_is_said_once_with_a_hint(seven, monkeypatch, caplog):
    def full(self, path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kernel_cache.CheckedFile, "_write", full)
    assert seven()(6) == 42
    assert seven()(5.0) == 35.0
    (record,) = caplog.records
    assert "No space left on device" in record.message
    assert "NUMBA_CACHE_DIR" in record.message


def test_no_folder_that_can_be_written_is_said_once_with_a_hint(seven, monkeypatch, caplog):
    def nowhere(function):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(kernel_cache, "KernelCache", nowhere)
    function = seven()
    assert function(6) == 42
    assert function(5.0) == 35.0
    (record,) = caplog.records
    assert "NUMBA_CACHE_DIR" in record.message


def test_changed_source_of_the_package_is_compiled_anew(seven, monkeypatch):
    assert seven()(6) == 42
    monkeypatch.setattr(kernel_cache, "_sources", lambda: "other")
    function = seven()
    assert function(6) == 42
    assert hits(function) == 0
