"""Which files a command works on, and where each result goes."""

from __future__ import annotations

import glob
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import click

from mambaic.errors import ImageError, MambaICError, OutputError

IMAGE_SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif",
    ".jp2", ".jxl",
}  # fmt: skip
MBIC_SUFFIX = ".mbic"


@dataclass(frozen=True)
class Job:
    """One input and its output; None stands for stdin and stdout."""

    source: Path | None
    target: Path | None


def plan_jobs(
    inputs: tuple[str, ...], out: Path | None, *, suffixes: set[str], new_suffix: str
) -> list[Job]:
    """Jobs of files, folders (searched recursively, their tree kept) and globs.

    ``out`` is a file for one input, else a folder; without it results lie beside their inputs.
    Raises ImageError if an input names nothing, UsageError on contradictory outputs.
    """
    if inputs == ("-",):
        return [Job(None, None if out is None or str(out) == "-" else out)]
    found: list[tuple[Path, Path]] = []  # file, its path below the input that named it
    for name in inputs:
        found += expand(name, suffixes)
    single = len(found) == 1 and len(inputs) == 1 and not Path(inputs[0]).is_dir()
    if out is not None and str(out) == "-":
        if not single:
            raise click.UsageError("-o - takes exactly one input file")
        return [Job(found[0][0], None)]
    if out is not None and single and not out.is_dir() and not str(out).endswith("/"):
        return [Job(found[0][0], out)]
    jobs = []
    for file, below in found:
        target = (
            file.with_suffix(new_suffix) if out is None else out / below.with_suffix(new_suffix)
        )
        jobs.append(Job(file, target))
    return _tell_apart(jobs, new_suffix)


def expand(name: str, suffixes: set[str]) -> list[tuple[Path, Path]]:
    """(file, its path below the folder that was named) of a file, folder or glob."""
    path = Path(name)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in suffixes)
        if not files:
            raise ImageError(f"{name}: no {'/'.join(sorted(suffixes))} file in this folder")
        return [(file, file.relative_to(path)) for file in files]
    if not path.exists() and glob.has_magic(name):
        files = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
        if files:
            return [(file, Path(file.name)) for file in files]
    return [(path, Path(path.name))]


def _tell_apart(jobs: list[Job], new_suffix: str) -> list[Job]:
    """Jobs without a common target: a.gif and a.png become a.gif.mbic and a.png.mbic.

    Raises OutputError where even these meet (files of one name out of different folders).
    """
    counts = Counter(job.target for job in jobs)
    out = []
    for job in jobs:
        assert job.target is not None
        assert job.source is not None
        if counts[job.target] > 1:
            job = Job(job.source, job.target.with_name(job.source.name + new_suffix))
        out.append(job)
    seen: dict[Path | None, Path | None] = {}
    for job in out:
        if job.target in seen:
            raise OutputError(
                f"{seen[job.target]} and {job.source} would both become {job.target}: "
                "give them different folders with -o"
            )
        seen[job.target] = job.source
    return out


def check_target(job: Job, force: bool) -> None:
    """Refuse before the work is done what could not be written after it. Raises OutputError."""
    if job.target is None or job.source is None:
        return
    if job.target.exists():
        if job.source.exists() and job.target.samefile(job.source):
            raise OutputError(f"{job.target}: input and output are the same file")
        if not force:
            raise OutputError(f"{job.target}: exists already; use --force to replace it")


def name_of(path: Path | None) -> str:
    return "-" if path is None else str(path)


def report(job: Job, exc: MambaICError) -> None:
    """One line on stderr about a failed input."""
    text = str(exc)
    name = name_of(job.source)
    click.echo(f"mambaic: {text if text.startswith(name) else f'{name}: {text}'}", err=True)
