"""Where the result of each input goes."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import click

from mambaic.errors import MambaICError, OutputError
from mambaic.imaging.atomic_files import check_writable, is_special
from mambaic.imaging.suffixes import meeting, tell_apart
from mambaic_cli.inputs import Found, expand


@dataclass(frozen=True)
class Job:
    """One input and its output, None for stdin and stdout; or why there is nothing to be done."""

    source: Path | None
    target: Path | None
    problem: MambaICError | None = None

    @property
    def piped(self) -> bool:
        return self.target is None and self.problem is None


def plan_jobs(
    inputs: tuple[str, ...], out: str | None, *, suffixes: set[str], new_suffix: str
) -> list[Job]:
    """Jobs of files, folders (searched recursively, their tree kept) and globs.

    ``out`` is a file for one input, else a folder, as it is if it ends with a slash; without it
    results lie beside their inputs. An input that names nothing is a job with a problem. Raises
    UsageError on contradictory outputs.
    """
    is_folder = out is not None and (out.endswith(_slashes()) or os.path.isdir(out))
    if "-" in inputs:
        if len(inputs) > 1:
            raise click.UsageError("- (stdin) cannot be given beside other inputs")
        if is_folder:
            raise click.UsageError("-o must name a file, as stdin has no name")
        return [Job(None, None if out in (None, "-") else Path(str(out)))]
    found = [file for name in inputs for file in expand(name, suffixes)]
    single = len(found) == 1 and len(inputs) == 1 and not os.path.isdir(inputs[0])
    if out == "-" and not single:
        raise click.UsageError("-o - takes exactly one input file")
    if single and out is not None and not is_folder:
        target = None if out == "-" else Path(out)
        return [Job(found[0].path, target, found[0].problem)]
    jobs = [_job(file, None if out is None else Path(out), new_suffix) for file in found]
    return _tell_apart(list(dict.fromkeys(jobs)), new_suffix)


def _slashes() -> tuple[str, ...]:
    return tuple(mark for mark in (os.sep, os.altsep) if mark)


def _job(file: Found, folder: Path | None, new_suffix: str) -> Job:
    if file.problem is not None:
        return Job(file.path, None, file.problem)
    place = file.path if folder is None else folder / file.below
    return Job(file.path, place.with_suffix(new_suffix))


def _tell_apart(jobs: list[Job], new_suffix: str) -> list[Job]:
    """Jobs without a common target. Files of one name out of different folders still meet in one
    folder: a problem of each."""
    targets = tell_apart([(job.source, job.target) for job in jobs], new_suffix)
    jobs = [replace(job, target=target) for job, target in zip(jobs, targets, strict=True)]
    left = meeting(targets)
    rivals: defaultdict[Path | None, list[str]] = defaultdict(list)
    for i in sorted(left):
        rivals[jobs[i].target].append(str(jobs[i].source))
    return [_refused(job, rivals[job.target]) if i in left else job for i, job in enumerate(jobs)]


def _refused(job: Job, rivals: list[str]) -> Job:
    others = ", ".join(name for name in rivals if name != str(job.source))
    problem = OutputError(
        f"{job.source}: {job.target} would also be the output of {others}: give them to commands "
        "of their own, each with another folder for -o"
    )
    return Job(job.source, None, problem)


def check_target(job: Job, force: bool) -> None:
    """Refuse before the work is done what could not be written after it. Raises OutputError."""
    if job.target is None:
        return
    if job.source is not None and _same_file(job.source, job.target):
        raise OutputError(f"{job.target}: input and output are the same file")
    if not is_special(job.target, force=force):
        check_writable(job.target)


def _same_file(a: Path, b: Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except (OSError, ValueError):  # one is missing; reading and writing tell the rest
        return False


def name_of(path: Path | None) -> str:
    return "-" if path is None else str(path)
