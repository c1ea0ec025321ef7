"""One thread waits for what another gives."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from darkroom.worker.batching.reply import Reply


def test_the_value_is_taken_whichever_thread_comes_first() -> None:
    early, late = Reply[int](), Reply[int]()
    early.give(1)
    assert early.take() == 1
    with ThreadPoolExecutor(1) as threads:
        taken = threads.submit(late.take)
        late.give(2)
        assert taken.result() == 2


def test_nobody_takes_what_is_not_given() -> None:
    reply, here = Reply[int](), threading.Event()

    def take() -> int:
        here.set()
        return reply.take()

    with ThreadPoolExecutor(1) as threads:
        taken = threads.submit(take)
        here.wait()
        assert not taken.done()
        reply.give(3)
        assert taken.result() == 3


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_an_error_is_raised_as_it_is(error: BaseException) -> None:
    reply = Reply[int]()
    reply.fail(error)
    with pytest.raises(type(error)) as raised:
        reply.take()
    assert raised.value is error


def test_an_error_that_was_raised_holds_nothing_once_it_is_let_go() -> None:
    class Large:
        """As a tensor of the call that failed."""

    def failed() -> weakref.ref[Large]:
        held, reply = Large(), Reply[Large]()
        reply.fail(ValueError("no"))
        with pytest.raises(ValueError, match="no"):
            reply.take()
        return weakref.ref(held)

    gc.disable()
    try:
        assert failed()() is None
    finally:
        gc.enable()
