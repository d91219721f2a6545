"""Tasks over threads: each is done once, at the same time as others, and errors come back."""

import sys
import threading

import pytest
import torch

from mambaic_kernels import threads
from mambaic_kernels.threads import cut, run


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["openmp", "pool"])
def way(request, monkeypatch):
    if request.param == "pool":
        monkeypatch.setattr(threads, "_openmp", lambda: None)
    return request.param


@pytest.mark.skipif(sys.platform != "linux", reason="Linux: torch brings an OpenMP with it")
def test_torch_has_an_openmp_to_run_on():
    assert threads._openmp() is not None


def test_every_block_is_done_once_by_several_threads(way):
    both = threading.Barrier(2, timeout=20)
    done, workers = [], set()

    def task(index, first, last):
        if index < 2:
            both.wait()  # none of the first two ends before both have begun
        workers.add(threading.get_ident())
        done.append((index, first, last))

    blocks = cut(100, 7, 100, 1)
    run(task, blocks)
    assert sorted(done) == [(index, *block) for index, block in enumerate(blocks)]
    assert len(workers) == 2


@pytest.mark.parametrize("error", [ValueError("a bad block"), KeyboardInterrupt()])
@pytest.mark.parametrize("bad", [0, 5])
def test_errors_of_any_thread_are_raised(way, bad, error):
    def task(index, first, last):
        if index == bad:
            raise error

    with pytest.raises(type(error)):
        run(task, cut(6, 6, 1, 1))
    run(lambda *block: None, [(0, 1), (1, 2)])  # and threads go on working


def test_several_callers_at_once_and_tasks_that_run_others(way):
    done = []

    def inner(index, first, last):
        done.append((first, last))

    callers = [
        threading.Thread(target=run, args=(lambda *_: run(inner, cut(8, 4, 2, 1)), cut(4, 4, 1, 1)))
        for _ in range(2)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=60)
        assert not caller.is_alive()
    assert len(done) == 2 * 4 * 4


@pytest.mark.parametrize(
    ("width", "count", "longest", "multiple"),
    [(104, 4, 104, 1), (100, 2, 999, 16), (5, 9, 2, 1), (0, 2, 8, 1)],
)
def test_cut_covers_everything_once(width, count, longest, multiple):
    blocks = cut(width, count, longest, multiple)
    assert [at for first, last in blocks for at in range(first, last)] == list(range(width))
    assert all(first % multiple == 0 and last - first <= longest for first, last in blocks)
