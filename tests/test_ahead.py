"""Items made ahead in another thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from geoseg.ahead import ahead


def counted(n: int, log: list[str]) -> Iterator[int]:
    try:
        for i in range(n):
            log.append(threading.current_thread().name)
            yield i
    finally:
        log.append("closed")


@pytest.mark.parametrize("n", [0, 1, 5, 100])
def test_the_same_items_in_the_same_order(n: int) -> None:
    log: list[str] = []
    assert list(ahead(counted(n, log))) == list(range(n))
    assert log == ["ahead"] * n + ["closed"]


def test_errors_come_behind_what_was_made_before() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    seen = []
    with pytest.raises(ValueError, match="no more"):
        seen.extend(iter(ahead(broken())))
    items = ahead(broken())
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more"):
        next(items)


def test_it_ends_when_nobody_wants_more() -> None:
    log: list[str] = []
    items = ahead(counted(10**9, log))
    assert [next(items), next(items)] == [0, 1]
    items.close()
    assert log[-1] == "closed"
    assert len(log) < 10
    assert not [t for t in threading.enumerate() if t.name == "ahead"]


def test_no_more_is_made_than_may_wait() -> None:
    log: list[str] = []
    items = ahead(counted(100, log), waiting=2)
    next(items)
    threading.Event().wait(0.2)
    # one is used, two wait, one waits for room
    assert len(log) <= 4
    items.close()
