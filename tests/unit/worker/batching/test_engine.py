"""The engine: one thread, in order, whatever a call raises."""

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest
import torch

from darkroom.worker.batching.engine import Engine, EngineClosed
from darkroom.worker.batching.pace import Pace
from darkroom.worker.batching.threads import set_threads
from tests.unit.worker.batching.holding import held


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(threads=2) as engine:
        yield engine


def fail(error: BaseException) -> NoReturn:
    raise error


def test_a_call_gives_its_result(engine: Engine) -> None:
    assert engine.call(divmod, 17, 5) == (3, 2)
    assert engine.call(sorted, [2, 3, 1], reverse=True) == [3, 2, 1]


def test_every_call_runs_on_one_thread_of_its_own(engine: Engine) -> None:
    with ThreadPoolExecutor(8) as pool:
        threads = set(pool.map(lambda _: engine.call(threading.get_ident), range(64)))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_calls_never_overlap(engine: Engine) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        torch.ones(64, 64) @ torch.ones(64, 64)
        inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: engine.call(work), range(64)))
    assert most == 1


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3), KeyboardInterrupt(), MemoryError()])
def test_what_a_call_raises_reaches_the_caller_and_the_engine_lives(engine: Engine, error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        engine.call(fail, error)
    assert raised.value is error
    assert engine.call(int, "7") == 7


def test_calls_run_while_the_device_has_its_next_ones(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the host would wait for the GPU, it can give it other work in."""
    done = threading.Event()
    monkeypatch.setattr(Pace, "full", property(lambda _: not done.is_set()))
    monkeypatch.setattr(Pace, "wait", lambda _: done.wait())
    with ThreadPoolExecutor(2) as pool:
        with held(engine):
            waiting = [pool.submit(engine.call, int, text) for text in ("1", "2")]
            while len(engine._agenda.calls) < 2:
                time.sleep(0.001)
        assert [future.result(10) for future in waiting] == [1, 2]
        done.set()


def test_a_call_that_the_device_is_still_at_counts_as_running(engine: Engine) -> None:
    class Late:
        def query(self) -> bool:
            return False

    engine.call(int)
    engine._pace.started(Late())
    before = engine.busy_seconds()
    assert before < engine.busy_seconds()


def test_a_call_from_within_a_call_is_direct(engine: Engine) -> None:
    assert engine.call(lambda: engine.call(threading.get_ident)) == engine.call(threading.get_ident)


def test_calls_run_without_gradients(engine: Engine) -> None:
    assert torch.is_grad_enabled()
    assert engine.call(torch.is_grad_enabled) is False


def test_the_number_of_cpu_threads_belongs_to_the_engine(engine: Engine) -> None:
    """Another thread's setting must not reach it, though torch also keeps the last one for threads to come."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(set_threads, 1).result()
        assert pool.submit(torch.get_num_threads).result() == 1
    engine.call(lambda: torch.rand(512, 512) @ torch.rand(512, 512))
    assert engine.call(torch.get_num_threads) == 2


def test_who_makes_an_engine_keeps_one_cpu_thread() -> None:
    """Teams of several threads put each other to sleep, and each model call takes twice as long."""

    def made() -> tuple[int, int]:
        set_threads(2)
        with Engine(threads=2) as engine:
            return torch.get_num_threads(), engine.call(torch.get_num_threads)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(made).result() == (1, 2)


def test_nothing_of_a_call_stays_behind(engine: Engine) -> None:
    tensor = torch.ones(8)
    seen = weakref.ref(tensor)
    engine.call(torch.sum, tensor)
    engine.call(int)  # the engine lets go of a call at the latest when the next one comes
    del tensor
    gc.collect()
    assert seen() is None


def test_closing_finishes_what_is_waiting_and_refuses_the_rest() -> None:
    engine, done = Engine(threads=1), []
    with ThreadPoolExecutor(2) as pool:
        with held(engine):
            waiting = pool.submit(engine.call, done.append, "waited")
            while not engine._agenda.calls:
                pass
            closing = pool.submit(engine.close)
        for future in (waiting, closing):
            future.result()
    assert done == ["waited"]
    with pytest.raises(EngineClosed):
        engine.call(int)
    engine.close()
