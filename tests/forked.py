"""Work in a forked child, which has the parent's memory and none of its threads."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable
from typing import TypeVar

import pytest

R = TypeVar("R")

forks = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system"
)


def in_child(task: Callable[[], R], timeout_s: float = 60) -> R:
    """What ``task()`` returns in a forked child; fails if that hangs, EOFError if it raises."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(task()))
    with warnings.catch_warnings():  # Python's own, of forks beside threads
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    sender.close()
    try:
        if not receiver.poll(timeout_s):
            pytest.fail("the child hangs")
        result: R = receiver.recv()
        return result
    finally:
        child.kill()
        child.join()
