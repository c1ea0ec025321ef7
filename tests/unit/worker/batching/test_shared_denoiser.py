"""The engine's denoiser calls: stacked, recovered, taken out, ended."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NoReturn

import pytest
import torch

from darkroom.worker.batching.engine import Engine, EngineClosed, ImageLeft
from darkroom.worker.batching.placements import Script, Ticket
from darkroom.worker.batching.policy import Policy
from tests.unit.worker.batching.holding import held


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as engine:
        yield engine


class Doubler:
    """A denoiser: 2 x. It fails on a row that holds `poison`, and has memory for `room` rows."""

    def __init__(self, poison: float | None = None, room: int = 99, error: type[BaseException] = ValueError) -> None:
        self.poison, self.room, self.error = poison, room, error
        self.rows: list[int] = []

    def __call__(self, sample: torch.Tensor, step: Any = None) -> tuple[torch.Tensor]:
        self.rows.append(len(sample))
        if len(sample) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        if self.poison in sample.flatten().tolist():
            raise self.error("poisoned")
        return (sample * 2,)


def sample(value: float, rows: int = 2) -> torch.Tensor:
    return torch.full((rows, 4), value)


def together(
    engine: Engine, module: Callable[..., Any], samples: list[torch.Tensor], tickets: list[Ticket] | None = None
) -> list[Any]:
    """Results or errors of calls that wait at the same time, one for each sample."""
    wanted = tickets or [Ticket() for _ in samples]
    with ThreadPoolExecutor(len(samples)) as pool:
        with held(engine):
            waiting = [start(engine, pool, module, *one) for one in zip(samples, wanted, strict=True)]
        for future in waiting:
            future.exception()
    for ticket in wanted:
        engine.leave(ticket)
    return [future.exception() or future.result()[0] for future in waiting]


def start(
    engine: Engine, pool: ThreadPoolExecutor, module: Callable[..., Any], given: torch.Tensor, ticket: Ticket
) -> Future[Any]:
    """A call that is in the queue when this returns."""
    before = engine.stats().waiting
    future = pool.submit(engine.denoise, module, (given,), {}, ticket)
    while engine.stats().waiting == before and not future.done():
        pass
    return future


def places(tickets: list[Ticket]) -> list[str]:
    return [str(ticket.placements) for ticket in tickets]


def test_calls_that_wait_together_are_one_model_call(engine: Engine) -> None:
    doubler, tickets = Doubler(), [Ticket() for _ in range(3)]
    found = together(engine, doubler, [sample(1), sample(2, 1), sample(3)], tickets)
    assert doubler.rows == [8]
    assert [(len(one), one.unique().tolist()) for one in found] == [(2, [2.0]), (1, [4.0]), (2, [6.0])]
    assert places(tickets) == ["8:0", "8:2", "8:3"]
    stats = engine.stats()
    assert (stats.model_calls, stats.rows, stats.padding, stats.calls) == ({8: 1}, 5, 3, 3)
    assert (stats.waiting, stats.stepping) == (0, 0)
    assert stats.queued > 0 and stats.busy > 0


def test_calls_of_other_models_and_shapes_are_not(engine: Engine) -> None:
    one, other = Doubler(), Doubler()
    with ThreadPoolExecutor(3) as pool, held(engine):
        waiting = [
            start(engine, pool, module, given, Ticket())
            for module, given in ((one, sample(1)), (other, sample(2)), (one, torch.ones(2, 5)))
        ]
    assert [future.result()[0].unique().tolist() for future in waiting] == [[2.0], [4.0], [2.0]]
    assert (sorted(one.rows), other.rows) == ([2, 2], [2])


def test_solo_calls_and_odd_ones_go_alone(engine: Engine) -> None:
    doubler, tickets = Doubler(), [Ticket(solo=True), Ticket(), Ticket(solo=True), Ticket()]
    together(engine, doubler, [sample(1, 3), sample(2), sample(3), sample(4)], tickets)
    assert sorted(doubler.rows) == [2, 4, 4]
    assert (places(tickets)[0], places(tickets)[2]) == ("4:0", "2:0")
    odd = Ticket()
    engine.denoise(lambda x, **_: (x,), (sample(1, 3),), {"scale": torch.tensor(2.0)}, odd)
    assert str(odd.placements) == "3:0"


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_error_ends_only_the_call_that_raises_it(engine: Engine, error: type[BaseException]) -> None:
    doubler, tickets = Doubler(poison=2, error=error), [Ticket() for _ in range(4)]
    found = together(engine, doubler, [sample(value) for value in (1, 2, 3, 4)], tickets)
    assert [type(one) for one in found] == [torch.Tensor, error, torch.Tensor, torch.Tensor]
    assert engine.stats().stepping == 0
    assert [one.unique().tolist() for one in found if isinstance(one, torch.Tensor)] == [[2.0], [6.0], [8.0]]
    assert places(tickets) == ["8:0", "", "8:4", "8:6"]  # repeated at their own places: their bits are as they were
    assert doubler.rows == [8] * 5
    assert engine.stats().repeated == 4


def test_too_little_memory_divides_calls_and_is_remembered(engine: Engine) -> None:
    doubler, tickets = Doubler(room=4), [Ticket() for _ in range(8)]
    found = together(engine, doubler, [sample(value) for value in range(8)], tickets)
    assert [one.unique().tolist() for one in found] == [[2.0 * value] for value in range(8)]
    assert doubler.rows[-6:] == [16, 8, 4, 4, 4, 4] and set(places(tickets)) == {"4:0", "4:2"}
    again = len(doubler.rows)
    together(engine, doubler, [sample(value) for value in range(8)])
    assert doubler.rows[again:] == [4, 4, 4, 4]
    assert engine.stats().out_of_memory == len([rows for rows in doubler.rows if rows > 4])


def test_one_call_is_divided_by_its_rows(engine: Engine) -> None:
    doubler, ticket = Doubler(room=1), Ticket()
    given = torch.arange(12.0).view(3, 4)
    assert torch.equal(engine.denoise(doubler, (given, torch.tensor(7)), {}, ticket)[0], given * 2)
    assert doubler.rows == [4, 2, 1, 1, 1]
    assert str(ticket.placements) == "1:0:1+1:0:1+1:0:1"
    assert torch.equal(engine.denoise(doubler, (given, torch.tensor(7)), {}, ticket)[0], given * 2)
    assert doubler.rows[5:] == [1, 1, 1] and str(ticket.placements) == "2x1:0:1+1:0:1+1:0:1"


def test_where_one_row_is_too_much_its_caller_alone_hears_of_it(engine: Engine) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        engine.denoise(Doubler(room=0), (sample(1),), {}, Ticket())
    assert engine.denoise(Doubler(), (sample(1),), {}, Ticket())[0].unique().tolist() == [2.0]


def test_a_script_puts_the_rows_where_they_were(engine: Engine) -> None:
    seen: list[torch.Tensor] = []

    def keep(given: torch.Tensor) -> torch.Tensor:
        seen.append(given.clone())
        return given

    given, ticket = torch.arange(2.0).view(2, 1), Ticket(script=Script("8:3 1:0:1+2:1:1 2:1"))
    for _ in range(4):
        assert torch.equal(engine.denoise(keep, (given,), {}, ticket), given)
    assert [one.flatten().tolist() for one in seen] == [
        [0, 0, 0, 0, 1, 0, 0, 0],
        [0],
        [1, 1],
        [0, 1],  # two rows are not at row 1 of two, and the record ends: alone
        [0, 1],
    ]
    assert str(ticket.placements) == "8:3 1:0:1+2:1:1 2x2:0"


def test_a_script_that_memory_forbids_is_left(engine: Engine) -> None:
    ticket = Ticket(script=Script("8:3"))
    assert engine.denoise(Doubler(room=4), (sample(1),), {}, ticket)[0].unique().tolist() == [2.0]
    assert str(ticket.placements) == "2:0"


def test_an_image_is_taken_out_while_it_waits(engine: Engine) -> None:
    doubler, tickets = Doubler(), [Ticket(), Ticket()]
    with ThreadPoolExecutor(2) as pool, held(engine):
        waiting = [start(engine, pool, doubler, sample(1), ticket) for ticket in tickets]
        engine.leave(tickets[0])
        with pytest.raises(ImageLeft):
            waiting[0].result()
    assert waiting[1].result()[0].unique().tolist() == [2.0]
    assert doubler.rows == [2]


def test_whoever_leaves_is_not_waited_for(engine: Engine) -> None:
    with engine.image() as ticket:
        engine.denoise(Doubler(), (sample(1),), {}, ticket)
        assert engine.stats().stepping == 1
    assert engine.stats().stepping == 0
    engine.leave(ticket)


def test_who_leaves_while_the_model_is_at_its_call_is_not_waited_for(engine: Engine) -> None:
    entered, gate = threading.Event(), threading.Event()

    def slow(given: torch.Tensor) -> tuple[torch.Tensor]:
        entered.set()
        gate.wait()
        return (given,)

    ticket = Ticket()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(engine.denoise, slow, (sample(1),), {}, ticket)
        entered.wait()
        engine.leave(ticket)
        gate.set()
        waiting.result()
    assert engine.stats().stepping == 0


def test_steps_go_on_while_other_calls_wait(engine: Engine) -> None:
    order: list[str] = []

    def note(given: torch.Tensor) -> torch.Tensor:
        order.append("step")
        return given

    def loop() -> None:
        with engine.image() as ticket:
            for _ in range(3):
                engine.denoise(note, (sample(1),), {}, ticket)

    def other(steps: Future[None]) -> None:
        while not (engine.stats().waiting or steps.done()):
            pass
        order.append("call")

    with ThreadPoolExecutor(9) as pool:
        with held(engine):
            steps = pool.submit(loop)
            while not engine.stats().waiting:
                pass
            others = [pool.submit(engine.call, other, steps) for _ in range(8)]
            while len(engine._agenda.calls) < 8:
                pass
        for future in others:
            future.result()
    assert order == ["step", "call"] * 3 + ["call"] * 5


class Undecided(Policy):
    """A policy with a fault of ours."""

    def choose(self, *_: Any) -> NoReturn:
        raise ZeroDivisionError("oh")


class Incapable(Policy):
    """A policy with another."""

    def cap(self, _: object) -> NoReturn:
        raise ZeroDivisionError("oh")

    def ran(self, *_: object) -> NoReturn:
        raise ZeroDivisionError("oh")


@pytest.mark.parametrize("broken", [Undecided, Incapable])
def test_a_policy_that_fails_leaves_nobody_waiting(broken: type[Policy]) -> None:
    with Engine(1, broken()) as engine:
        found = together(engine, Doubler(), [sample(1), sample(2)])
        assert [type(one) for one in found] == [ZeroDivisionError] * 2
        assert engine.call(int, "7") == 7


def test_closing_finishes_the_calls_that_wait() -> None:
    engine, doubler = Engine(1), Doubler()
    engine.denoise(doubler, (sample(0),), {}, Ticket())  # its image is still stepping: not waited for
    with ThreadPoolExecutor(3) as pool:
        with held(engine):
            waiting = [start(engine, pool, doubler, sample(1), Ticket()) for _ in range(2)]
            closing = pool.submit(engine.close)
            while not engine._closed:
                pass
        closing.result()
    assert [future.result()[0].unique().tolist() for future in waiting] == [[2.0], [2.0]]
    with pytest.raises(EngineClosed):
        engine.denoise(doubler, (sample(1),), {}, Ticket())


def test_a_denoiser_call_from_within_a_call_is_direct(engine: Engine) -> None:
    assert engine.call(lambda: engine.denoise(Doubler(), (sample(1, 3),), {}, Ticket())[0].shape) == (3, 4)


def test_random_loads_lose_nothing_and_mix_nothing(engine: Engine) -> None:
    """Images of random lengths, rows and shapes, some of which fail or leave at a random step."""
    draw = random.Random(3)
    doubler = Doubler(poison=1e9, room=8)

    def image(number: int, length: int, rows: int, width: int, end: int, way: str) -> int:
        with engine.image(urgent=bool(number % 3), solo=number % 7 == 0) as ticket:
            for step in range(length):
                value = 1000.0 * number + step
                if step == end and way == "stop":
                    return step
                given = torch.full((rows, width), 1e9 if step == end and way == "fail" else value)
                try:
                    (found,) = engine.denoise(doubler, (given, torch.tensor(step)), {}, ticket)
                except ValueError:
                    assert step == end and way == "fail"
                    return step
                assert torch.equal(found, given * 2)
        return length

    ways = ("", "", "stop", "fail")
    loads = [
        (i, draw.randint(1, 8), draw.choice((1, 2)), draw.choice((3, 4)), draw.randint(0, 8), draw.choice(ways))
        for i in range(40)
    ]
    with ThreadPoolExecutor(12) as pool:
        made = list(pool.map(lambda load: image(*load), loads))
    wanted = [min(length, end) if way else length for _, length, _, _, end, way in loads]
    assert made == wanted
    stats = engine.stats()
    assert (stats.waiting, stats.stepping) == (0, 0)
    assert sum(stats.model_calls) and all(bucket in (1, 2, 4, 8) for bucket in stats.model_calls)
