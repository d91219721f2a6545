"""Runs jobs with one progress bar; a bad one is reported and the rest go on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import click

from mambaic.errors import MambaICError
from mambaic_cli.inputs import Job, report

if TYPE_CHECKING:
    from mambaic.codec import Progress

SILENT_S = 1.0  # what takes less needs no bar


def run_jobs(
    jobs: list[Job],
    work: Callable[[Job, Progress | None], dict[str, Any]],
    *,
    line: Callable[[dict[str, Any]], str],
    workers: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """Exit code: 0, or that of the first job that failed. ``work`` returns what is printed.

    One bar counts the files, or the tiles of the only one: then ``work`` is given where to tell.
    """
    from tqdm import tqdm

    failed: list[MambaICError] = []
    single = len(jobs) == 1

    def tiles(done: int, count: int) -> None:
        if count > 1:
            bar.total = count
            bar.update(done - bar.n)

    def guarded(job: Job) -> tuple[Job, dict[str, Any] | MambaICError]:
        try:
            return job, work(job, tiles if single else None)
        except MambaICError as exc:
            return job, exc

    piped = any(job.target is None for job in jobs)
    bar = tqdm(
        total=None if single else len(jobs),
        unit="tile" if single else "file",
        delay=SILENT_S,
        leave=not single,
        disable=quiet or not sys.stderr.isatty(),
        file=sys.stderr,
    )
    with bar, ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        futures = [pool.submit(guarded, job) for job in jobs]
        try:
            for future in futures:
                job, result = future.result()
                if not single:
                    bar.update()
                if isinstance(result, MambaICError):
                    failed.append(result)
                    report(job, result)
                elif as_json and not piped:
                    click.echo(json.dumps(result))
                elif not quiet:
                    # results share the terminal with the bar, and stdout with piped data
                    tqdm.write(line(result), file=sys.stderr if piped else sys.stdout)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if len(jobs) > 1 and failed:
        click.echo(f"mambaic: {len(failed)} of {len(jobs)} files failed", err=True)
    return failed[0].exit_code if failed else 0
