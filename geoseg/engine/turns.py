"""The threads of a process in which networks run; all others read, write and wait.

Where a network takes all processors at once there is one such thread, always the same: OpenMP
keeps a team of threads for each one that it was called from, and several teams that wait for work
take the processors from each other. Without a GPU passes of one thread each run side by side
instead: none waits for another at the end of each layer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

__all__ = ["in_turn", "side_by_side"]

Result = TypeVar("Result")


class _Turns:
    """A queue of work and the threads that take from it."""

    def __init__(self, threads: int) -> None:
        self._waiting: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        for _ in range(threads):
            # daemons: an interrupted job doesn't wait for them
            threading.Thread(target=self._serve, name="predict", daemon=True).start()

    def submit(self, work: Callable[[], Result]) -> Future[Result]:
        done: Future[Result] = Future()
        self._waiting.put((done, work))
        return done

    def _serve(self) -> None:
        while True:
            done, work = self._waiting.get()
            if done.set_running_or_notify_cancel():
                try:
                    done.set_result(work())
                except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                    done.set_exception(error)
            del done, work  # the arrays of a block are not held until the next


_starting = threading.Lock()
_turns: dict[int, _Turns] = {}


def _of(threads: int) -> _Turns:
    with _starting:
        if threads not in _turns:
            _turns[threads] = _Turns(threads)
        return _turns[threads]


def in_turn(work: Callable[[], Result]) -> Result:
    """What ``work`` gives, or raises, when its turn has come."""
    return _of(1).submit(work).result()


def side_by_side(works: Sequence[Callable[[], Result]], threads: int) -> list[Result]:
    """What each of ``works`` gives, in their order, up to ``threads`` of them at once.

    What is asked for first begins first, whoever asks. The first that raises ends it: those that
    have not begun are given up.
    """
    turns = _of(threads)
    waiting = [turns.submit(work) for work in works]
    try:
        return [done.result() for done in waiting]
    finally:
        for done in waiting:
            done.cancel()
