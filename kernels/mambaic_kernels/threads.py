"""Tasks over torch's threads.

Threads of OpenMP, which torch's operations use, wait for their next task by spinning for some
milliseconds: a pool of other threads beside them finds the cores taken. So tasks run on theirs, by
``GOMP_parallel``, which the runtimes of GCC, LLVM and Intel have. On Windows, which has none of
them, they run on a pool of Python's.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch

LANES = 16  # blocks are multiples of this many elements

_Body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()
_forked = False  # True in a child process


def forked() -> bool:
    """Whether this is a forked child: threads of its parent are gone, and OpenMP would wait for
    them for ever."""
    return _forked


def cut(width: int, count: int, longest: int, multiple: int = LANES) -> list[tuple[int, int]]:
    """Ranges of 0..width to work on, of a ``multiple``: about ``count``, none over ``longest``."""
    share = -(-width // count)
    size = min(longest, max(multiple, -(-share // multiple) * multiple))
    return [(start, min(start + size, width)) for start in range(0, width, size)]


def run(task: Callable[[int, int, int], None], blocks: list[tuple[int, int]]) -> None:
    """task(index, first, last) for every block, over as many threads as torch uses."""
    threads = 1 if _forked else min(torch.get_num_threads(), len(blocks))
    left = iter(enumerate(blocks))  # shared: taking the next one of a list is atomic
    if threads <= 1:
        _work(task, left)
    elif (parallel := _openmp()) is not None:
        _by_openmp(parallel, lambda: _work(task, left), threads)
    else:
        others = [_threads().submit(_work, task, left) for _ in range(threads - 1)]
        _work(task, left)
        for other in others:
            if not other.cancel():  # begun; one that has not finds nothing left to do
                other.result()


def _work(
    task: Callable[[int, int, int], None], left: Iterator[tuple[int, tuple[int, int]]]
) -> None:
    for index, (first, last) in left:
        task(index, first, last)


def _by_openmp(parallel: Any, work: Callable[[], None], threads: int) -> None:
    """Raises the first error of any thread: none may leave what C has called."""
    errors: list[BaseException] = []

    def body(_: int | None) -> None:
        try:
            work()
        except BaseException as exc:
            errors.append(exc)

    parallel(_Body(body), None, threads, 0)
    if errors:
        raise errors[0]


@lru_cache(maxsize=1)
def _openmp() -> Any:
    """``GOMP_parallel`` of the runtime that torch uses; None where there is none."""
    try:
        parallel = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (AttributeError, OSError):
        return None
    parallel.argtypes = [_Body, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return parallel


def _threads() -> ThreadPoolExecutor:
    """Worker threads of this process."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
        return _pool


def _after_fork() -> None:
    """In a child, where the threads of the pool, and one that held the lock, are gone."""
    global _forked, _pool, _pool_lock
    _forked, _pool, _pool_lock = True, None, threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
