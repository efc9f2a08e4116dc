"""Networks of a process run in one thread, in turn."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from geoseg.engine.turns import in_turn


def test_one_thread_one_at_a_time_whoever_asks() -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> tuple[int, int]:
        inside.append(number)
        most.append(len(inside))
        time.sleep(0.002)
        inside.remove(number)
        return number, threading.get_ident()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: in_turn(lambda: work(n)), range(40)))
    assert [number for number, _ in answers] == list(range(40))
    assert len({thread for _, thread in answers}) == 1
    assert max(most) == 1


def test_what_fails_fails_for_who_asked() -> None:
    with pytest.raises(ZeroDivisionError):
        in_turn(lambda: 1 // 0)
    assert in_turn(lambda: 5) == 5
