"""Calls in line for a connection: who goes next, and when one gives up."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from darkroom.tasks import QueueBusy, QueueUnavailable
from darkroom.tasks.limiter import AsyncLimiter, Limiter

MOMENT = 0.05  # a command's time-out


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def in_line(limiter: Limiter | AsyncLimiter, count: int) -> bool:
    return len(limiter._waiting) == count


def until(limiter: Limiter, count: int) -> None:
    deadline = time.monotonic() + 10
    while not in_line(limiter, count):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_threads_go_in_the_order_in_which_they_came(pool: ThreadPoolExecutor) -> None:
    limiter, order = Limiter(1, 10), list[int]()

    def call(number: int) -> None:
        with limiter:
            order.append(number)

    with limiter:
        done = []
        for number in range(5):
            done.append(pool.submit(call, number))
            until(limiter, number + 1)
    for call_done in done:
        call_done.result(10)
    assert order == [*range(5)]


def test_no_more_than_the_bound_are_inside(pool: ThreadPoolExecutor) -> None:
    limiter, inside, most = Limiter(3, 10), [0], [0]
    lock = threading.Lock()

    def call(_: int) -> None:
        with limiter:
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.0005)
            with lock:
                inside[0] -= 1

    list(pool.map(call, range(300)))
    assert 1 <= most[0] <= 3


def test_a_thread_gives_up_when_the_server_answers_nobody() -> None:
    limiter = Limiter(2, MOMENT)
    with limiter, limiter, pytest.raises(QueueUnavailable, match="did not answer: all 2") as caught, limiter:
        pass
    assert not isinstance(caught.value, QueueBusy)


def test_a_thread_gives_up_when_the_others_never_leave(pool: ThreadPoolExecutor) -> None:
    limiter = Limiter(2, MOMENT)

    def call() -> None:
        with limiter:
            pass

    with limiter, limiter:
        late = pool.submit(call)
        while not late.done():
            limiter.answered()
            time.sleep(MOMENT / 5)
        with pytest.raises(QueueBusy, match="no connection to Redis came free within") as caught:
            late.result()
    assert "DARKROOM_REDIS_CONNECTIONS" in caught.value.hint
    assert caught.value.retryable
    with limiter, limiter:  # who gave up holds nothing
        pass


def test_tasks_go_in_the_order_in_which_they_came_and_a_cancelled_one_hands_on() -> None:
    async def run() -> list[int]:
        limiter, order = AsyncLimiter(1, 10), list[int]()

        async def call(number: int) -> None:
            async with limiter:
                order.append(number)
                await asyncio.sleep(0)

        async with limiter:
            tasks = [asyncio.create_task(call(number)) for number in range(6)]
            await asyncio.sleep(0)
            tasks[2].cancel()
        tasks[0].cancel()  # it has been given the connection, and has not run since
        await asyncio.wait(tasks)
        async with limiter:
            assert in_line(limiter, 0)
        return order

    assert asyncio.run(run()) == [1, 3, 4, 5]


def test_a_task_gives_up() -> None:
    async def run() -> None:
        limiter = AsyncLimiter(1, MOMENT)
        async with limiter:
            with pytest.raises(QueueUnavailable, match="did not answer"):
                async with limiter:
                    pass

            async def call() -> None:
                async with limiter:
                    pass

            late = asyncio.create_task(call())
            while not late.done():
                limiter.answered()
                await asyncio.sleep(MOMENT / 5)
            with pytest.raises(QueueBusy):
                await late
        async with limiter:
            assert in_line(limiter, 0)

    asyncio.run(run())
