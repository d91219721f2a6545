"""The plan on Ray Data: readers and workers anywhere in a cluster, results here and in order.

Ray starts a worker anew that has died, and gives what it had to do to the next; what it had already
delivered is not delivered again. A picture that takes a worker with it several times (mostly by its
size: the system ends processes when memory is short) is reported instead of tried for ever.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mambaic.bulk.coding import Task, code
from mambaic.bulk.items import Item
from mambaic.bulk.places import Place
from mambaic.bulk.plan import Unit
from mambaic.bulk.reading import read
from mambaic.errors import DeviceError, ImageError, MambaICError
from mambaic.extras import require

if TYPE_CHECKING:
    import pyarrow

ATTEMPTS = 3  # of a picture, before it is blamed for its workers' ends
BATCH = 8  # pictures a worker is given at a time
BLOCK_BYTES = 2**17  # read at a time: a few small pictures, or one; a block goes to one worker
READERS = 2
STORE_BYTES = 2**30  # of a Ray of our own: pictures on their way between readers and workers
COLUMN = "item"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """``address`` of a cluster to join, None for a Ray of this call on this machine; ``workers``
    None for as many as there is room for; ``cpus`` and ``gpus`` of each, ``gpus`` None for one if
    there are any."""

    address: str | None = None
    workers: int | None = None
    cpus: float = 1.0
    gpus: float | None = None
    store_bytes: int = STORE_BYTES


def run(units: Sequence[Unit], place: Place, task: Task, cluster: Cluster) -> Iterator[Item]:
    """Coded items of the units, in their order. Raises DeviceError if Ray fails."""
    require("ray")
    import ray

    with _joined(cluster):
        workers, gpus = _room(cluster)
        device = "cuda" if gpus else "cpu"
        attempts = ray.remote(num_cpus=0, max_restarts=-1)(_Attempts).remote()
        context = ray.data.DataContext.get_current().copy()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        context.target_max_block_size = BLOCK_BYTES
        with ray.data.DataContext.current(context):
            rows = [{COLUMN: pickle.dumps(unit)} for unit in units]
            blocks = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // BATCH))
            read_ones = blocks.map_batches(
                _read,
                fn_args=(place, task.suffixes, task.new_suffix),
                batch_format="pyarrow",
                num_cpus=0,  # readers wait, and workers may have taken all cores
                compute=ray.data.TaskPoolStrategy(size=READERS),
            )
            coded = read_ones.map_batches(
                _Worker,
                fn_constructor_args=(task, device, max(1, int(cluster.cpus)), attempts),
                batch_size=BATCH,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=workers),
                num_cpus=cluster.cpus,
                num_gpus=gpus,
            )
            for table in coded.iter_batches(batch_size=None, batch_format="pyarrow"):
                yield from _items(table)


def _read(
    units: pyarrow.Table, place: Place, suffixes: Collection[str], new_suffix: str
) -> Iterator[pyarrow.Table]:
    """Units to items, in a task."""
    for unit in _items(units):
        for item in read(place, unit, suffixes, new_suffix):
            yield _table(item)


class _Worker:
    """Codes items, in an actor that has loaded its codec."""

    def __init__(self, task: Task, device: str, threads: int, attempts: Any) -> None:
        import torch

        torch.set_num_threads(threads)
        self._task, self._device, self._attempts = task, device, attempts
        with contextlib.suppress(MambaICError):  # which every picture will tell
            task.prepare(device)

    def __call__(self, items: pyarrow.Table) -> Iterator[pyarrow.Table]:
        import ray

        for item in _items(items):
            if ray.get(self._attempts.begin.remote(item.source)) > ATTEMPTS:
                exc = ImageError(f"its worker ended {ATTEMPTS} times: too little memory?")
                yield _table(item.failed(exc))
            else:
                coded = code(item, self._task, self._device)
                self._attempts.end.remote(item.source)
                yield _table(coded)


class _Attempts:
    """How often each source was begun without an end, in an actor that outlives workers. One that
    stands before it in its batch is begun as often, but ends."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, source: str) -> int:
        self._begun[source] += 1
        return self._begun[source]

    def end(self, source: str) -> None:
        del self._begun[source]


def _table(item: Item) -> pyarrow.Table:
    """Pickled: names of files need not be text, which Arrow's strings are."""
    import pyarrow

    return pyarrow.table({COLUMN: pyarrow.array([pickle.dumps(item)], pyarrow.large_binary())})


def _items(table: pyarrow.Table) -> list[Any]:
    return [pickle.loads(value) for value in table[COLUMN].to_pylist()]


def _room(cluster: Cluster) -> tuple[int, float]:
    """(workers, GPUs of each). Raises DeviceError if there is no room for one."""
    import ray

    there = ray.cluster_resources()
    gpus = cluster.gpus
    if gpus is None:
        gpus = 1.0 if there.get("GPU") else 0.0
    room = there.get("CPU", 0) / cluster.cpus
    if gpus:
        room = min(room, there.get("GPU", 0) / gpus)
    if room < 1:
        raise DeviceError(
            f"Ray has {there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs, and a worker "
            f"is to have {cluster.cpus:g} and {gpus:g}: use fewer (--cpus, --gpus)"
        )
    return min(int(room), cluster.workers or int(room)), gpus


@contextlib.contextmanager
def _joined(cluster: Cluster) -> Iterator[None]:
    """In a Ray, which ends with the block if it was not there before. Raises DeviceError."""
    import ray
    import ray.data
    from ray.exceptions import RayError

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    joins = not ray.is_initialized()
    try:
        if joins:
            _start(cluster)
        yield
    except (RayError, ConnectionError) as exc:
        where = f" at {cluster.address}" if cluster.address else ""
        raise DeviceError(f"Ray{where}: {exc}") from exc
    finally:
        if joins:
            ray.shutdown()


def _start(cluster: Cluster) -> None:
    import ray

    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it warns of Ray Data's own actors
    settings: dict[str, Any] = {"address": cluster.address}
    if cluster.address is None:
        own = {"object_store_memory": cluster.store_bytes, "include_dashboard": False}
        settings = {"address": "local", **own}
    on_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**settings, log_to_driver=False, logging_level=logging.ERROR)
    finally:
        if on_main and handler is not None:  # Ray puts its own in place
            signal.signal(signal.SIGTERM, handler)
