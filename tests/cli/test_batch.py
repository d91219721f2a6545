"""However jobs fail, the rest go on, and each is told of; without a codec."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mambaic.errors import BitstreamError, ImageError
from mambaic_cli.batch import run_jobs
from mambaic_cli.jobs import Job
from mambaic_cli.main import main


def run(failures: dict[str, Exception], names: str = "abc", **options) -> int:
    """``run_jobs`` of files whose work raises what ``failures`` says."""

    def work(task):
        name = str(task.job.source)
        if name in failures:
            raise failures[name]
        return {"input": name}

    jobs = [Job(Path(name), Path(name + ".mbic")) for name in names]
    settings = {"workers": 2, "as_json": False, "quiet": False, **options}
    return run_jobs(jobs, work, line=lambda result: f"{result['input']} done", **settings)


@pytest.mark.parametrize(
    ("failure", "code", "text"),
    [
        (ImageError("b: broken"), 3, "mambaic: b: broken"),
        (BitstreamError("damaged"), 4, "mambaic: b: damaged"),
        (MemoryError(), 3, "mambaic: b: not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 3, "not enough memory"),
        (OSError(5, "Input/output error", "x"), 3, "mambaic: b: x: Input/output error"),
        (EOFError(), 1, "EOFError"),
        (KeyError("k"), 1, "KeyError: 'k'"),
    ],
)
def test_one_failure_is_told_and_the_rest_goes_on(failure, code, text, capsys):
    assert run({"b": failure}) == code
    out, err = capsys.readouterr()
    assert out.splitlines() == ["a done", "c done"]
    assert text in err
    assert ("Traceback" in err) == (code == 1)
    assert "1 of 3 files failed" in err


def test_memory_that_numpy_lacks_is_told_in_a_line(capsys):
    with pytest.raises(MemoryError) as caught:
        np.empty(2**60, dtype=np.uint8)
    assert run({"a": caught.value}, names="a") == 3
    assert capsys.readouterr().err == "mambaic: a: not enough memory\n"


def test_code_is_of_the_first_failure_unless_one_is_a_bug():
    assert run({"a": BitstreamError("x"), "b": ImageError("x")}) == 4
    assert run({"a": BitstreamError("x"), "b": ValueError("x")}) == 1


def test_traceback_of_a_bug_comes_after_everything_else(capsys):
    assert run({"a": ValueError("surprise"), "c": ImageError("c: broken")}) == 1
    err = capsys.readouterr().err
    assert err.index("c: broken") < err.index("mambaic: a: a bug") < err.index("Traceback")
    assert "ValueError: surprise" in err


def test_json_has_an_object_for_every_file(capsys):
    failures = {"a": ImageError("a: broken"), "b": ValueError("surprise")}
    assert run(failures, as_json=True) == 1
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [found["input"] for found in objects] == ["a", "b", "c"]
    assert objects[0] == {"input": "a", "output": "a.mbic", "error": "a: broken", "code": 3}
    assert objects[1]["code"] == 1
    assert "error" not in objects[2]


def test_interruption_lets_running_jobs_write_nothing(tmp_path):
    import threading

    begun, released = threading.Event(), threading.Event()
    errors = []

    def work(task):
        if str(task.job.source) == "a":
            begun.wait()
            raise KeyboardInterrupt
        begun.set()
        released.wait()
        try:
            task.outputs.write(tmp_path / "late", b"x")
        except Exception as exc:
            errors.append(exc)
        finally:
            ended.set()
        return {}

    ended = threading.Event()
    jobs = [Job(Path(name), Path(name)) for name in "ab"]
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, work, line=str, workers=2, as_json=False, quiet=True)
    released.set()
    assert ended.wait(5)
    assert "interrupted" in str(errors[0])
    assert os.listdir(tmp_path) == []


def test_end_of_file_is_no_interruption(monkeypatch):
    """click takes EOFError for Ctrl-D at a prompt; here it is what unpickling raises."""

    def broken(*arguments, **options):
        raise EOFError("Ran out of input")

    monkeypatch.setattr("mambaic_cli.info.read_file", broken)
    with pytest.raises(EOFError):
        main(["info", "x.mbic"])


@pytest.mark.parametrize(
    ("failure", "code"),
    [(PermissionError(13, "Permission denied", "run"), 3), (MemoryError(), 3)],
)
def test_any_command_ends_in_a_line(failure, code, monkeypatch, capsys):
    def broken(*arguments, **options):
        raise failure

    monkeypatch.setattr("mambaic_cli.info.read_file", broken)
    assert main(["info", "x.mbic"]) == code
    err = capsys.readouterr().err
    assert err.startswith("mambaic: ")
    assert len(err.splitlines()) == 1


PROGRAM = """
import sys
from pathlib import Path
from mambaic.errors import ImageError
from mambaic_cli import main, streams
from mambaic_cli.batch import run_jobs
from mambaic_cli.console import read_stdin, write_stdout
from mambaic_cli.jobs import Job
def command(*arguments, **options):
    def work(task):
        if task.job.source is None:
            write_stdout(read_stdin())
        elif "bad" in str(task.job.source):
            raise ImageError(f"{task.job.source}: broken")
        return {"name": str(task.job.source)}
    names = sys.argv[1:]
    jobs = [Job(Path(n), Path(n)) if n != "-" else Job(None, None) for n in names]
    return run_jobs(jobs, work, line=lambda r: r["name"], workers=1, as_json=False, quiet=False)
main.main = command
main.run()
"""


def program(names: list[str], redirect: str = "", environment: dict[str, str] | None = None):
    """``run_jobs`` as a program of its own, in a shell."""
    return subprocess.run(
        ["bash", "-c", f'"$0" "$@" {redirect}', sys.executable, "-c", PROGRAM, *names],
        capture_output=True, env={**os.environ, **(environment or {})}, check=False,
    )  # fmt: skip


posix = pytest.mark.skipif(os.name == "nt", reason="redirections of POSIX shells")


@posix
def test_names_that_a_terminal_lacks_are_shown_as_escapes():
    strict = {"PYTHONIOENCODING": "utf-8:strict", "LC_ALL": "C.UTF-8"}
    done = program([b"caf\xe9", "Фото", "two\nlines", "bad\udce9".encode(errors="surrogateescape")],
                   environment=strict)  # fmt: skip
    assert done.returncode == 3
    assert done.stdout.decode() == "caf\\xe9\nФото\ntwo\\nlines\n"
    assert done.stderr.decode().splitlines()[0] == "mambaic: bad\\xe9: broken"
    done = program(["Фо", "ok"], environment={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert done.stdout == b"\\u0424\\u043e\nok\n"


@posix
def test_reader_that_leaves_changes_nothing():
    names = [f"name-{i}" for i in range(3000)] + ["bad"]
    done = program(names, "| head -1; exit ${PIPESTATUS[0]}")
    assert done.returncode == 3
    assert done.stdout == b"name-0\n"
    assert done.stderr.splitlines()[0] == b"mambaic: bad: broken"
    assert program(names[:-1], "| head -1; exit ${PIPESTATUS[0]}").returncode == 0


@posix
@pytest.mark.parametrize(
    ("names", "redirect", "code", "text"),
    [
        (["a", "b"], ">/dev/full", 3, "stdout: cannot be written: No space left on device"),
        (["a", "bad"], ">&-", 3, "bad: broken"),
        (["a", "bad"], "2>&-", 3, ""),
        (["a", "bad"], "2>/dev/full", 3, ""),
        (["-"], "<&-", 3, "stdin: cannot be read: it is closed"),
        (["-"], "</dev/null >&-", 3, "stdout: cannot be written: it is closed"),
        (["-"], "< <(echo x) >/dev/full", 3, "stdout: cannot be written: No space left on device"),
        (["-"], "< <(head -c 1000000 /dev/zero) | true; exit ${PIPESTATUS[0]}", 3, "Broken pipe"),
    ],
)
def test_closed_and_full_streams_end_in_a_line(names, redirect, code, text):
    done = program(names, redirect)
    assert done.returncode == code
    assert text in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert "Exception" not in done.stderr.decode()
