"""Outputs: links, pipes, devices, and sources that change or cannot be deleted."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from mambaic.errors import ImageError, OutputError
from mambaic.imaging import atomic_files
from mambaic.imaging.atomic_files import Outputs, SourceFile, atomic_write, check_writable

posix = pytest.mark.skipif(os.name == "nt", reason="links, pipes and devices of POSIX")


def refusing(name, error):
    """``os`` function that fails with an error number."""

    def refuse(*arguments, **options):
        raise OSError(error, os.strerror(error))

    return name, refuse


@posix
def test_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    real, link = tmp_path / "far" / "real", tmp_path / "link"
    link.symlink_to(real)
    atomic_write(link, b"new")
    assert real.read_bytes() == b"new"
    with pytest.raises(OutputError, match="exists already"):
        atomic_write(link, b"newer")
    atomic_write(link, b"newer", force=True)
    assert link.is_symlink()
    assert real.read_bytes() == b"newer"
    assert os.listdir(tmp_path / "far") == ["real"]


@posix
def test_circle_of_links_is_one_typed_error(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OutputError, match="symbolic links"):
        atomic_write(tmp_path / "a", b"x", force=True)


@posix
@pytest.mark.parametrize("force", [False, True])
def test_pipe_is_written_to_and_stays(tmp_path, force):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    atomic_write(pipe, b"through", force=force)
    reader.join()
    assert read == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@posix
def test_device_is_written_to_and_keeps_no_source_from_staying(tmp_path):
    link, source = tmp_path / "null", tmp_path / "source"
    link.symlink_to("/dev/null")
    source.write_bytes(b"picture")
    atomic_write(link, b"x", force=True)
    assert stat.S_ISCHR(link.stat().st_mode)
    with pytest.raises(OutputError, match="not deleted"):
        Outputs().write(link, b"x", replaces=SourceFile.of(source))
    assert source.exists()


@posix
def test_full_device_is_a_typed_error():
    if not os.path.exists("/dev/full"):
        pytest.skip("a device of Linux")
    with pytest.raises(OutputError, match="No space left"):
        atomic_write(atomic_files.Path("/dev/full"), b"x")


@pytest.mark.parametrize("name", ["n" * 260, "nul\0byte", "file/x", "file/deep/x"])
def test_name_that_cannot_be_is_a_typed_error(tmp_path, name):
    (tmp_path / "file").write_bytes(b"not a folder")
    with pytest.raises(OutputError, match="cannot be written"):
        atomic_write(tmp_path / name, b"x", force=True)
    assert os.listdir(tmp_path) == ["file"]


def test_read_only_folder_is_a_typed_error_before_and_after_the_work(tmp_path, monkeypatch):
    real = os.open

    def read_only(path, flags, *rest, **options):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(30, "Read-only file system", path)
        return real(path, flags, *rest, **options)

    def no_unlink(path, **options):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr("os.open", read_only)
    monkeypatch.setattr("os.unlink", no_unlink)
    with pytest.raises(OutputError, match="x: cannot be written: Read-only file system"):
        check_writable(tmp_path / "new" / "x")
    monkeypatch.setattr(
        atomic_files, "_write_through", lambda path, data: read_only(path, os.O_CREAT)
    )
    with pytest.raises(OutputError, match="x: cannot be written: Read-only file system"):
        atomic_write(tmp_path / "x", b"data")


def test_source_goes_when_its_output_is_there(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    source.write_bytes(b"picture")
    Outputs().write(out, b"coded", replaces=SourceFile.of(source))
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("change", ["content", "other file", "gone"])
def test_source_that_has_changed_is_kept(tmp_path, change):
    source, out = tmp_path / "source", tmp_path / "out"
    source.write_bytes(b"picture")
    found = SourceFile.of(source)
    if change == "content":
        source.write_bytes(b"another")
        os.utime(source, ns=(1, 1))
    elif change == "other file":
        (tmp_path / "fresh").write_bytes(b"picture")
        os.replace(tmp_path / "fresh", source)
    else:
        source.unlink()
    with pytest.raises((OutputError, ImageError), match=r"changed|no such file"):
        Outputs().write(out, b"coded", replaces=found)
    assert out.read_bytes() == b"coded"
    assert source.exists() == (change != "gone")


def test_source_that_cannot_be_deleted_is_a_typed_error(tmp_path, monkeypatch):
    source, out = tmp_path / "source", tmp_path / "out"
    source.write_bytes(b"picture")

    def keep(path, missing_ok=False):
        if path == source:
            raise PermissionError(1, "Operation not permitted", str(path))
        os.unlink(path)

    monkeypatch.setattr(atomic_files.Path, "unlink", keep)
    with pytest.raises(OutputError, match="source: cannot be deleted: Operation not permitted"):
        Outputs().write(out, b"coded", replaces=SourceFile.of(source))
    assert sorted(os.listdir(tmp_path)) == ["out", "source"]


def test_closed_run_writes_and_deletes_nothing(tmp_path):
    source, outputs = tmp_path / "source", Outputs()
    source.write_bytes(b"picture")
    outputs.close()
    with pytest.raises(OutputError, match="interrupted"):
        outputs.write(tmp_path / "out", b"coded", replaces=SourceFile.of(source))
    assert os.listdir(tmp_path) == ["source"]


def test_unfinished_file_or_folder_is_gone_after_a_failure(tmp_path):
    def fail(begin):
        with atomic_files.unfinished(tmp_path / "part") as part:
            begin(part)
            raise RuntimeError

    for begin in (atomic_files.Path.mkdir, atomic_files.Path.touch):
        with pytest.raises(RuntimeError):
            fail(begin)
        assert os.listdir(tmp_path) == []
