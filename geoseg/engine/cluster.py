"""Blocks as Dask tasks. The one place with Dask, beside ``given``.

Threads of this process, worker processes or a cluster anywhere; workers and what they hold may
go at any moment, the scheduler too.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from geoseg.engine.given import Given
from geoseg.engine.plan import SLOTS
from geoseg.errors import GeosegError, WorkerError

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["SETTINGS", "ClusterExecutor"]

Item = TypeVar("Item")
Outcome = Any
Task = Callable[..., Any]

POLL_S = 0.05
"""How often it is asked what is done. A block waits at each worker, so that none is idle meanwhile
unless its blocks take less than that."""

LOOK_S = 2.0
"""How often the cluster is looked at while nothing comes back."""

CALL_S = 10.0
"""How long the scheduler may take to answer a call."""

RECONNECT_S = 5.0
"""How long a lost connection to the scheduler may take to come back."""

ALONE_TRIES = 3
"""Workers that a block may kill, alone, before it is blamed."""

WORKER_WAIT_S = 60.0
"""How long a job waits for a worker that can take its blocks before it says so."""


SETTINGS = {
    # the engine bounds memory itself: a paused or spilling worker only hides it
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.scheduler.allowed-failures": 0,
    # a hundred times a second it stops the threads that feed the network
    "distributed.worker.profile.enabled": False,
    # twice a second it looks at what only the dashboard draws: 2 % of a processor for each worker
    "distributed.admin.system-monitor.interval": "5s",
    # fifty times a second each process looks whether its event loop is late: 2 % of a processor
    "distributed.admin.tick.interval": "1s",
}
"""Of Dask, for workers on this machine."""

_OF_GPUS = ["geoseg.engine.gpus"]
"""What each local worker process loads first."""


class ClusterExecutor(AbstractContextManager["ClusterExecutor"]):
    """Blocks as Dask tasks: threads of this process, worker processes, or any cluster.

    Args:
        workers: worker processes on this machine; 0 runs threads of this process.
        address: scheduler to use instead, as ``tcp://host:port`` or ``tls://host:port``.
        client: a connected Client to use instead; it is left open.
        resources: what a worker must offer to take a block, such as ``{"GPU": 1}``.
        security: a ``distributed.Security`` for a TLS scheduler.
        dashboard: address of the dashboard, such as ``127.0.0.1:8787``; None: no dashboard.

    """

    def __init__(
        self,
        workers: int = 0,
        *,
        address: str | None = None,
        client: Client | None = None,
        resources: Mapping[str, float] | None = None,
        security: Any = None,
        dashboard: str | None = None,
        wait_s: float = WORKER_WAIT_S,
    ) -> None:
        self.workers = max(workers, 1)
        self.resources = dict(resources or {})
        self.wait_s = wait_s
        self.share_gpus = True  # False: each of the local workers sees all of them
        self._workers = workers
        self._address = address
        self._given = client
        self._security = security
        self._dashboard = dashboard
        self._client: Client | None = client
        self._cluster: Any = None

    def __enter__(self) -> ClusterExecutor:
        import dask
        from distributed import Client, LocalCluster

        if self._given is None:
            _quieten()
            # a client that never connected closes when it is collected: should that happen in the
            # thread of the new event loop, the two would wait for each other
            gc.collect()
        if self._given is None and self._address is not None:
            try:
                # the time-out is also that of every later call, of which a lost scheduler
                # answers none
                self._client = Client(
                    self._address, security=self._security, timeout=min(self.wait_s, CALL_S)
                )
            except (OSError, TimeoutError, ValueError) as error:  # ValueError: no address at all
                raise WorkerError(
                    f"no scheduler answers at {self._address} ({error}): start one with "
                    "'dask scheduler' and workers with 'dask worker'"
                ) from error
            except TypeError as error:  # how distributed says that it has no certificate
                raise WorkerError(
                    f"{self._address} wants TLS ({error}): give its files with --tls CA,CERT,KEY"
                ) from error
        elif self._given is None:
            try:
                with dask.config.set(SETTINGS):
                    self._cluster = LocalCluster(
                        n_workers=self.workers,
                        threads_per_worker=SLOTS,
                        processes=self._workers > 0,
                        host="127.0.0.1" if self._workers > 0 else None,
                        dashboard_address=self._dashboard or "127.0.0.1:0",
                        worker_dashboard_address="127.0.0.1:0",
                        memory_limit=0,
                        silence_logs=logging.CRITICAL,
                        security=self._security,
                        preload=_OF_GPUS if self._workers > 0 and self.share_gpus else [],
                    )
                    self._client = Client(self._cluster)
            except (RuntimeError, ValueError) as error:  # of an address of the dashboard, say
                raise WorkerError(
                    f"no workers could be started here (dashboard {self._dashboard}): {error}"
                ) from error
        self._wait_for_workers()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._given is not None:
            return
        with suppress(TimeoutError, OSError):
            if self._client is not None:
                self._client.close(timeout=2)
            if self._cluster is not None:
                self._cluster.close(timeout=2)

    def _able(self) -> list[Mapping[str, Any]]:
        """Workers that offer the resources a block needs."""
        self._check_connection()
        assert self._client is not None
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        wanted = self.resources.items()
        return [w for w in workers if all(w["resources"].get(k, 0) >= n for k, n in wanted)]

    def _restore(self) -> None:
        """Have workers of our own started again that are gone for good.

        A worker process that ends is started again by its nanny; Dask gives the nanny up, too,
        when that takes longer than 15 s (``distributed.deploy.lost-worker-timeout``).
        """
        if self._cluster is not None:
            self._cluster.scale(max(self._workers, 1))

    def _wait_for_workers(self) -> None:
        deadline = time.monotonic() + self.wait_s
        looked = time.monotonic()
        while not (able := self._able()):
            if time.monotonic() - looked > LOOK_S:
                self._restore()
                looked = time.monotonic()
            if time.monotonic() > deadline:
                needs = ", ".join(f"{k}={n:g}" for k, n in self.resources.items())
                raise WorkerError(
                    f"no worker{' with ' + needs if needs else ''} joined the cluster within "
                    f"{self.wait_s:g} s: start workers"
                    + (f" with --resources '{needs}'" if needs else "")
                )
            time.sleep(0.1)
        self.workers = len(able)

    def run(
        self, task: Task, arguments: tuple[Any, ...], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Outcome | Exception]]:
        """See Executor. An item on a worker that died is run again, alone, after the others:
        only one that kills its workers again when nothing else runs is blamed.
        """
        try:
            yield from self._run(task, arguments, items)
        except OSError as error:  # also raised when a connection closed
            raise _scheduler_lost() from error

    def _run(
        self, task: Task, arguments: tuple[Any, ...], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Outcome | Exception]]:
        assert self._client is not None
        given = Given(self._client, arguments, self._wait_for_workers)
        slots = sum(w["nthreads"] for w in self._able()) or SLOTS
        suspects: list[Item] = []
        for item, outcome in self._stream(task, given, iter(items), slots + self.workers):
            if isinstance(outcome, _WorkerDied):
                suspects.append(item)
            else:
                yield item, outcome
        for suspect in suspects:
            yield suspect, self._alone(task, given, suspect)

    def _alone(self, task: Task, given: Given, item: Item) -> Outcome | Exception:
        """An item with nothing beside it; blamed when its worker dies each of three times.

        Once is not enough: the worker may still have been going down with the one before.
        """
        why: Exception | None = None
        for _ in range(ALONE_TRIES):
            self._wait_for_workers()
            (_, outcome), *_rest = self._stream(task, given, iter([item]), 1)
            if not isinstance(outcome, _WorkerDied):
                return outcome
            why = outcome
        return WorkerError(f"block {item} kills the worker it runs on: {why}")

    def _stream(
        self, task: Task, given: Given, items: Iterator[Item], window: int
    ) -> Iterator[tuple[Item, Outcome | Exception]]:
        from distributed import as_completed

        waiting: dict[Future, Item] = {}

        def submit(count: int) -> list[Future]:
            return [self._submit(task, given, item, waiting) for item in islice(items, count)]

        finished = as_completed(submit(window))
        try:
            while waiting:
                future = self._next(finished)
                item = waiting.pop(future)
                outcome = _outcome(future)
                future.release()
                for more in submit(1):
                    finished.add(more)
                yield item, outcome
        finally:
            for future in waiting:
                future.cancel()

    def _submit(self, task: Task, given: Given, item: Item, waiting: dict[Future, Item]) -> Future:
        assert self._client is not None
        name = getattr(task, "__name__", "task").replace("_", "-")
        label = "-".join(map(str, item)) if isinstance(item, tuple) else str(item)
        future = self._client.submit(
            _call,
            task,
            given.future(),
            item,
            key=f"{name}-{label}-{next(_serial)}",
            # a share of what was asked for: while one block is on the GPU, the worker reads the
            # next and writes the last
            resources={k: n / SLOTS for k, n in self.resources.items()} or None,
            pure=False,
        )
        waiting[future] = item
        return future

    def _next(self, finished: Any) -> Future:
        """The next future that is done; WorkerError when all workers are gone for long."""
        alone_since: float | None = None
        looked = time.monotonic()
        while not finished.has_ready():
            time.sleep(POLL_S)
            if time.monotonic() - looked < LOOK_S:
                continue
            looked = time.monotonic()
            self._check_connection()
            able = self._able()
            if len(able) < self._workers:
                self._restore()
            if able:
                alone_since = None
            elif alone_since is None:
                alone_since = looked
            elif looked - alone_since > self.wait_s:
                raise WorkerError(
                    f"no worker has been there for {self.wait_s:g} s: what is done is kept, "
                    "start workers and run the same command again"
                )
        future: Future = next(finished)
        self._check_connection()
        return future

    def _check_connection(self) -> None:
        """Raises WorkerError when the scheduler is gone and doesn't come back soon."""
        deadline = time.monotonic() + RECONNECT_S
        while self._client is None or self._client.status != "running":
            if time.monotonic() > deadline or self._client is None:
                raise _scheduler_lost()
            time.sleep(0.05)


def _quieten() -> None:
    """No tracebacks of Dask's own: what goes wrong is said in one line, as an error."""
    import distributed  # noqa: F401 - gives each of its loggers a level

    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _scheduler_lost() -> WorkerError:
    return WorkerError(
        "the connection to the scheduler is lost: what is done is kept, "
        "run the same command again to go on"
    )


def _count() -> Iterator[str]:
    number = 0
    tag = f"{os.getpid():x}{int(time.time() * 1000) & 0xFFFFFF:x}"
    while True:
        number += 1
        yield f"{tag}{number:x}"


_serial = _count()


def _call(task: Task, given: tuple[Any, ...], item: Any) -> Any:
    return task(*given, item)


class _WorkerDied(Exception):  # noqa: N818 - a marker, never raised
    """The worker that ran or held a task is gone."""


def _outcome(future: Future) -> Outcome | Exception:
    from distributed import CancelledError, KilledWorker

    try:
        if future.status == "finished":
            return future.result(timeout=30)
        error = future.exception(timeout=30)
    # a result may be lost, and its task run and fail again, between being announced and being
    # asked for; TimeoutError is an OSError
    except (CancelledError, KilledWorker, OSError) as gone:
        return _WorkerDied(f"its result went with its worker ({gone})")
    except GeosegError as failure:
        return failure
    if isinstance(error, KilledWorker | CancelledError):
        return _WorkerDied("its worker ended without a word (out of memory, or a crash)")
    if isinstance(error, GeosegError):
        return error
    if error is None:
        return _WorkerDied("its result went before it was asked for")
    raise error
