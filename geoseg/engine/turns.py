"""The thread of a process in which networks run, one block after the other.

While it predicts, other threads read the next block and write the last one. It is always the
same thread: OpenMP keeps a team of threads for each one that it was called from, and several
teams that wait for work take the processors from each other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

__all__ = ["in_turn"]

Result = TypeVar("Result")

_waiting: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
_starting = threading.Lock()
_threads: list[threading.Thread] = []


def in_turn(work: Callable[[], Result]) -> Result:
    """What ``work`` gives, or raises, when its turn has come."""
    with _starting:
        if not _threads:
            # a daemon: an interrupted job doesn't wait for it
            _threads.append(threading.Thread(target=_serve, name="predict", daemon=True))
            _threads[0].start()
    done: Future[Result] = Future()
    _waiting.put((done, work))
    return done.result()


def _serve() -> None:
    while True:
        done, work = _waiting.get()
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            done.set_exception(error)
        del done, work  # the arrays of a block are not held until the next
