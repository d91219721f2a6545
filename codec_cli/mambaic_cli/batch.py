"""Runs jobs with one progress bar; a bad one is reported and the rest go on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from mambaic.imaging.atomic_files import Outputs
from mambaic_cli.jobs import Job
from mambaic_cli.outcomes import Outcomes

if TYPE_CHECKING:
    from mambaic.codec import Progress

SILENT_S = 1.0  # what takes less needs no bar


class Task(NamedTuple):
    """A job, the outputs that its file is to be one of, and where to tell of its tiles."""

    job: Job
    outputs: Outputs
    progress: Progress | None


def run_jobs(
    jobs: list[Job],
    work: Callable[[Task], dict[str, Any]],
    *,
    line: Callable[[dict[str, Any]], str],
    workers: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """Exit code of all (``Outcomes``). ``work`` returns what is printed.

    One bar counts the files, or the tiles of the only one. An interruption does not wait for the
    jobs that run; they can write nothing any more.
    """
    from tqdm import tqdm

    single = len(jobs) == 1

    def tiles(done: int, count: int) -> None:
        if count > 1:
            bar.total = count
            bar.update(done - bar.n)

    outcomes = Outcomes(
        line=line, as_json=as_json, quiet=quiet, piped=any(job.piped for job in jobs)
    )
    bar = tqdm(
        total=None if single else len(jobs),
        unit="tile" if single else "file",
        delay=SILENT_S,
        leave=not single,
        disable=quiet or sys.stderr is None or not sys.stderr.isatty(),
        file=sys.stderr,
    )
    outputs, pool = Outputs(), ThreadPoolExecutor(max_workers=max(1, workers))
    try:
        with bar:
            tasks = [Task(job, outputs, tiles if single else None) for job in jobs]
            futures = [pool.submit(_run, work, task) for task in tasks]
            for job, future in zip(jobs, futures, strict=True):
                result = future.result()
                if not single:
                    bar.update()
                with tqdm.external_write_mode(file=sys.stderr):  # lines share its terminal
                    outcomes.add(job, result)
    except BaseException:
        outputs.close()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return outcomes.conclude(len(jobs))


def _run(work: Callable[[Task], dict[str, Any]], task: Task) -> dict[str, Any] | Exception:
    try:
        if task.job.problem is not None:
            raise task.job.problem
        return work(task)
    except Exception as exc:
        return exc
