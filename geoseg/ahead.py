"""Making the next while the last is used: one thread fills a short queue, the caller empties it."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from queue import Empty, Queue
from threading import Event, Thread
from typing import TypeVar

__all__ = ["ahead"]

_T = TypeVar("_T")


class _End:
    """Behind the last item: what ended it."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(items: Iterable[_T], waiting: int = 1) -> Generator[_T, None, None]:
    """The same items in the same order, made in a thread of their own.

    Args:
        items: iterated over in that thread alone; a generator is closed there.
        waiting: finished items that may wait to be used, besides the one in the making.

    Raises:
        Exception: what ``items`` raises, after the items before it.

    """
    queue: Queue[_T | _End] = Queue(waiting)
    stop = Event()

    def work() -> None:
        error: BaseException | None = None
        source = iter(items)
        try:
            for item in source:
                queue.put(item)
                if stop.is_set():
                    break
        except BaseException as raised:  # noqa: BLE001 whatever it is, the caller gets it
            error = raised
        finally:
            if isinstance(source, Generator):
                source.close()
        queue.put(_End(error))

    thread = Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := queue.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        while thread.is_alive():  # it may wait for room in the queue
            try:
                queue.get(timeout=0.05)
            except Empty:
                continue
        thread.join()
