"""Which files a command works on, and where each result goes: no picture is read for it."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from mambaic.errors import OutputError
from mambaic.imaging.suffixes import IMAGE_SUFFIXES
from mambaic_cli.jobs import Job, check_target, plan_jobs
from mambaic_cli.main import main


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")


def plan(*inputs: str, out: str | None = None) -> list[Job]:
    return plan_jobs(inputs, out, suffixes=IMAGE_SUFFIXES, new_suffix=".mbic")


def targets(*inputs: str, out: str | None = None) -> dict[str, str]:
    return {str(job.source): str(job.target) for job in plan(*inputs, out=out)}


def test_name_that_ends_with_a_slash_is_a_folder():
    touch("a.png")
    assert targets("a.png", out="new/") == {"a.png": "new/a.mbic"}
    assert targets("a.png", out="new") == {"a.png": "new"}
    Path("there").mkdir()
    assert targets("a.png", out="there") == {"a.png": "there/a.mbic"}
    with pytest.raises(click.UsageError, match="no name"):
        plan("-", out="new/")


@pytest.mark.parametrize(
    "arguments",
    [
        ["compress", "", "--delete-source"],
        ["compress", "a.png", "", "--delete-source"],
        ["compress", "a.png", "-o", ""],
        ["decompress", ""],
        ["info", ""],
        ["eval", "", "-o", "report"],
        ["train", "--data", "", "--out", "run"],
        ["train", "--data", ".", "--out", ""],
        ["demo", ""],
    ],
)
def test_empty_name_is_a_usage_error(arguments, capsys):
    touch("a.png", "precious.png")
    assert main(arguments) == 2
    assert "empty" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["a.png", "precious.png"]


def test_names_that_meet_are_told_apart_whatever_they_are():
    touch("d/a.jpg", "d/a.png", "d/a.jpg.png", "d/a.jpg.jpg", "d/b.png")
    found = targets("d")
    assert len(set(found.values())) == 5
    assert found["d/b.png"] == "d/b.mbic"
    assert found["d/a.png"] == "d/a.png.mbic"
    assert found["d/a.jpg.png"] == "d/a.jpg.png.mbic"


def test_files_of_one_name_are_refused_by_name_and_the_rest_goes_on():
    touch("x/a.png", "y/a.png", "y/b.png")
    jobs = {str(job.source): job for job in plan("x", "y", out="out")}
    assert jobs["y/b.png"].target == Path("out/b.mbic")
    for name, other in [("x/a.png", "y/a.png"), ("y/a.png", "x/a.png")]:
        assert other in str(jobs[name].problem)


def test_file_that_is_named_twice_is_one_job():
    touch("x/a.png", "x/b.png")
    assert targets("x", "x/a.png", "x/*.png") == {"x/a.png": "x/a.mbic", "x/b.png": "x/b.mbic"}
    assert len(plan("x", "x/a.png", "x/*.png")) == 2


def test_what_macos_adds_is_no_picture():
    touch("d/a.jpg", "d/._a.jpg", "d/__MACOSX/d/._a.jpg", "d/__MACOSX/b.jpg")
    assert targets("d") == {"d/a.jpg": "d/a.mbic"}
    assert targets("d/._a.jpg") == {"d/._a.jpg": "d/._a.mbic"}  # whoever names it wants it


def test_folder_with_the_name_of_a_picture_and_links_that_lead_nowhere_or_round():
    touch("d/x.png/inner.jpg")
    Path("d/broken.png").symlink_to("missing")
    Path("d/round").symlink_to(".")
    assert targets("d") == {"d/x.png/inner.jpg": "d/x.png/inner.mbic"}


def test_input_that_names_nothing_is_a_problem_of_its_own():
    touch("a.png", "empty/readme.txt")
    jobs = plan("a.png", "*.jpg", "empty", out="out")
    assert [job.problem is None for job in jobs] == [True, False, False]
    assert "*.jpg: no file of such a name" in str(jobs[1].problem)
    assert "no .avif" in str(jobs[2].problem)


def test_folder_that_cannot_be_read_is_a_problem_of_its_own(monkeypatch):
    touch("d/a.png", "d/locked/b.png")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    jobs = plan("d")
    assert [str(job.problem) for job in jobs] == [
        "None",
        "d/locked: cannot be read: Permission denied",
    ]


@pytest.mark.parametrize("target", ["d", "a.mbic", "n" * 252 + ".mbic", "a.png/x.mbic"])
def test_target_that_cannot_be_is_refused_before_the_work(target):
    touch("a.png", "a.mbic", "d/x")
    with pytest.raises(OutputError):
        check_target(Job(Path("a.png"), Path(target)), force=False)


def test_link_to_the_input_is_the_input():
    touch("a.png")
    Path("link").symlink_to("a.png")
    os.link("a.png", "hard")
    for name in ("link", "hard", "a.png"):
        with pytest.raises(OutputError, match="same file"):
            check_target(Job(Path("a.png"), Path(name)), force=True)
