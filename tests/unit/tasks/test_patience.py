"""A time-out that a busy event loop does not shorten."""

import asyncio
import time

import pytest

from darkroom.tasks.patience import Patience


def test_what_takes_too_long_is_given_up() -> None:
    async def run() -> None:
        async with Patience(0.05):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        asyncio.run(run())


def test_a_loop_that_stood_still_looks_for_the_answer_first() -> None:
    async def run() -> str:
        async with Patience(0.2):
            answer = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.01, answer.set_result, "answer")
            time.sleep(0.5)
            return str(await answer)

    assert asyncio.run(run()) == "answer"


def test_a_cancel_stays_a_cancel() -> None:
    async def wait() -> None:
        async with Patience(0.05):
            await asyncio.Event().wait()

    async def run() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
