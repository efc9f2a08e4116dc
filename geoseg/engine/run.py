"""Running a job: passes over blocks, on one of a few executors.

An executor takes a task and a stream of items and gives back (item, result or error) in any
order, holding only a bounded window of them. The serial one is the reference; the others
must give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

from geoseg.engine.blocks import (
    finish_block,
    observe_block,
    phase_name,
    predict_block,
    solve,
)
from geoseg.engine.job import Job, Place
from geoseg.engine.plan import SLOTS
from geoseg.engine.report import Progress, RunReport
from geoseg.engine.store import MapLayout, create_map
from geoseg.errors import BlockError, GeosegError, WorkerError
from geoseg.models.segmenter import Fittable, Segmenter
from geoseg.switching import quick_switches

__all__ = ["Executor", "SerialExecutor", "ThreadExecutor", "fit", "run_job"]

Item = TypeVar("Item")
Outcome = Any
Task = Callable[..., Any]


class Executor(Protocol):
    """Runs a task over items, a bounded window of them at a time."""

    workers: int

    def run(
        self, task: Task, arguments: tuple[Any, ...], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Outcome | Exception]]:
        """``task(*arguments, item)`` for each item; errors come back instead of a result."""
        ...


@dataclass
class SerialExecutor:
    """One block after the other in this thread: the reference."""

    workers: int = 1

    def run(
        self, task: Task, arguments: tuple[Any, ...], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Outcome | Exception]]:
        """See Executor."""
        for item in items:
            try:
                outcome: Outcome | Exception = task(*arguments, item)
            except GeosegError as error:
                outcome = error
            yield item, outcome


@dataclass
class ThreadExecutor:
    """Some blocks at a time in threads of this process: while one is predicted, the next is read
    and the last is written.
    """

    workers: int = 1

    def run(
        self, task: Task, arguments: tuple[Any, ...], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Outcome | Exception]]:
        """See Executor; an error that is not geoseg's is raised."""
        rest = iter(items)
        pool = ThreadPoolExecutor(SLOTS, "block")
        waiting: dict[Future[Outcome], Item] = {}

        def submit(count: int) -> None:
            for item in islice(rest, count):
                waiting[pool.submit(task, *arguments, item)] = item

        patient = True
        try:
            submit(SLOTS + 1)  # one waits, so that no thread does
            while waiting:
                with quick_switches():
                    finished = wait(waiting, return_when=FIRST_COMPLETED).done
                for done in finished:
                    item, error = waiting.pop(done), done.exception()
                    if error is not None and not isinstance(error, GeosegError):
                        raise error
                    submit(1)
                    yield item, done.result() if error is None else error
        except KeyboardInterrupt:
            patient = False  # what is in flight is given up
            raise
        finally:
            pool.shutdown(wait=patient, cancel_futures=True)


def fit(
    fittable: Fittable, job: Job, executor: Executor, progress: Progress
) -> tuple[Segmenter, list[dict[str, Any]]]:
    """Passes over the scene until the method has all its statistics.

    Statistics are added in block order whatever the order in which they come.
    """
    records = []
    current: Fittable | Segmenter = fittable
    passes = 0
    while isinstance(current, Fittable) and not isinstance(current, Segmenter):
        passes += 1
        progress.start(f"observe {passes}", job.plan.region.pixels)
        total: Any = None
        held: dict[Place, Any] = {}
        order = (block.index for block in job.plan.iter_blocks())
        wanted = next(order, None)
        places = [block.index for block in job.plan.iter_blocks()]
        for place, outcome in executor.run(observe_block, (job, current), places):
            if isinstance(outcome, Exception):
                raise outcome
            held[place], record = outcome
            records.append(record)
            progress.advance(record["pixels"])
            while wanted in held:
                stats = held.pop(wanted)
                total = stats if total is None else total + stats
                wanted = next(order, None)
        current = current.fitted(total)
    assert isinstance(current, Segmenter)
    return current, records


def run_job(
    job: Job,
    executor: Executor,
    progress: Progress,
    *,
    part: tuple[int, int] | None = None,
) -> RunReport:
    """All passes of a job that are not done yet; what is done is read from the ledger.

    ``part`` (i, n) does the i-th of n shares of the first pass only. A block that fails is
    reported after all others are safe in the store. Raises BlockError or WorkerError.
    """
    report = RunReport.start(job.plan)
    if job.store.read_json("ledger/layout.json") is None:
        plan = job.plan
        layout = MapLayout(
            shape=plan.shape, block=plan.blocks.size, chunk=plan.chunk, names=job.array_names
        )
        create_map(job.store.map_url, layout, job.store.storage_options)
        job.store.write_json("ledger/layout.json", {"names": job.array_names})
    for number in range(len(job.joins) + 1):
        if number > 0:
            _solve(job, number - 1, executor, report)
        call: tuple[Task, tuple[Any, ...]] = (predict_block, (job,))
        if number > 0:
            call = (finish_block, (job, number - 1))
        _run_pass(number, call, executor, progress, report, part)
        if part is not None:
            break
    for number in range(len(job.joins) + 1):
        for record in job.store.records(phase_name(number)):
            report.add(record)
    return report


def _solve(job: Job, stage: int, executor: Executor, report: RunReport) -> None:
    if job.store.read_json(f"ledger/solve-{stage}.json") is None:
        for _, outcome in executor.run(solve, (job, stage), [(0, 0)]):
            if isinstance(outcome, Exception):
                raise outcome
    report.add_seconds(job.store.read_json(f"ledger/solve-{stage}.json")["seconds"])


def _run_pass(
    number: int,
    call: tuple[Task, tuple[Any, ...]],
    executor: Executor,
    progress: Progress,
    report: RunReport,
    part: tuple[int, int] | None,
) -> None:
    task, arguments = call
    job: Job = arguments[0]
    done = job.store.done(phase_name(number))
    blocks = (b for b in job.plan.iter_blocks() if _is_mine(b.number, part, job))
    skipped = sum(b.window.pixels for b in blocks if b.number in done) if done else 0
    progress.start("predict" if number == 0 else "join", job.plan.region.pixels, skipped)
    todo = (
        b.index
        for b in job.plan.iter_blocks()
        if b.number not in done and _is_mine(b.number, part, job)
    )
    failures: list[tuple[Place, GeosegError]] = []
    for place, outcome in executor.run(task, arguments, todo):
        if isinstance(outcome, GeosegError):
            failures.append((place, outcome))
        elif isinstance(outcome, Exception):
            raise outcome
        else:
            report.ran(outcome)
            progress.advance(outcome["pixels"])
    if failures:
        raise _failure(failures)


def _is_mine(number: int, part: tuple[int, int] | None, job: Job) -> bool:
    """Whether a block is in the i-th of n contiguous shares."""
    if part is None:
        return True
    index, count = part
    total = len(job.plan.blocks)
    return (index - 1) * total // count <= number < index * total // count


def _failure(failures: list[tuple[Place, GeosegError]]) -> GeosegError:
    """One error that names all windows that failed; the others are in the store."""
    failures.sort(key=lambda failure: failure[0])
    first = failures[0][1]
    if len(failures) == 1:
        return first
    others = ", ".join(str(place) for place, _ in failures[1:6])
    more = f" and {len(failures) - 6} more" if len(failures) > 6 else ""
    kind = type(first) if isinstance(first, BlockError | WorkerError) else BlockError
    return kind(f"{first} (also blocks {others}{more})")
