"""What is kept for those who ask again."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from darkroom.worker.caches import Cache


def test_only_the_newest_are_kept() -> None:
    cache = Cache[int](most=2)
    assert [cache.get(key, lambda key=key: len(key)) for key in ("a", "bb", "a", "ccc", "bb")] == [1, 2, 1, 3, 2]  # type: ignore[misc]
    assert (cache.hits, cache.misses) == (1, 4)
    assert cache.get("ccc", lambda: 0) == 3


def test_who_asks_for_what_is_being_made_waits_for_it() -> None:
    cache, started, gate = Cache[int](), threading.Event(), threading.Event()
    encoded: list[int] = []

    def encode(number: int, *, fails: bool = False) -> int:
        encoded.append(number)
        started.set()
        gate.wait()
        if fails:
            raise ValueError(number)
        return number

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(cache.get, "fox", lambda: encode(0, fails=True))
        started.wait()
        others = [pool.submit(cache.get, "fox", lambda number=number: encode(number)) for number in (1, 2, 3)]  # type: ignore[misc]
        while cache.hits < 3:
            time.sleep(0.001)
        gate.set()
        with pytest.raises(ValueError, match="0"):
            first.result()
        found = [other.result() for other in others]
    assert len(encoded) == 2 and found == [encoded[1]] * 3


def test_no_more_is_kept_than_there_is_room_for() -> None:
    cache = Cache[str](most=9, sizes=len, room=5)
    made: list[str] = []

    def get(key: str) -> None:
        cache.get(key, lambda: made.append(key) or key)  # type: ignore[func-returns-value]

    for key in ("aa", "bbb", "aa", "cc", "aa", "bbb", "dddddddd", "dddddddd"):
        get(key)
    assert made == ["aa", "bbb", "cc", "bbb", "dddddddd"]
