"""Networks of a process run in turn, in one thread, or side by side in a few."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from geoseg.engine.turns import in_turn, side_by_side


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


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_side_by_side_in_as_many_threads_as_are_given_whoever_asks(threads: int) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> tuple[int, int]:
        inside.append(number)
        most.append(len(inside))
        time.sleep(0.002)
        inside.remove(number)
        return number, threading.get_ident()

    def ask(first: int) -> list[tuple[int, int]]:
        return side_by_side([lambda n=n: work(n) for n in range(first, first + 10)], threads)

    with ThreadPoolExecutor(4) as pool:
        answers = [answer for some in pool.map(ask, range(0, 40, 10)) for answer in some]
    assert [number for number, _ in answers] == list(range(40))
    assert len({thread for _, thread in answers}) == threads
    assert max(most) == threads


def test_what_is_left_is_given_up_after_an_error() -> None:
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        time.sleep(0.01)
        if number == 1:
            raise ValueError(number)

    with pytest.raises(ValueError, match="1"):
        side_by_side([lambda n=n: work(n) for n in range(100)], 2)
    time.sleep(0.05)
    assert len(begun) < 10
    assert side_by_side([lambda: 7], 2) == [7]
