"""Images that stand still for urgent ones: under simulated loads, and in an engine."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from darkroom.worker.batching.crowd import STANDING
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.batching.policy import BUCKETS, Batch, Policy, Waiting
from darkroom.worker.batching.standing import JOIN, SHARE, Expected, Standing, asking, is_urgent
from tests.unit.worker.batching.holding import held

from .simulation import Image, Simulation
from .test_policy import LAUNCHES, Table, crowd, informed, table

CPU = {1: 0.02, 2: 0.03, 4: 0.045, 8: 0.07, 16: 0.13, 32: 0.25}  # rows that cost, though less in company
FLAT = {bucket: 0.05 + 0.0001 * bucket for bucket in BUCKETS}  # a GPU: rows cost next to nothing


def bulk(count: int = 8, steps: int = 200, **rest: object) -> list[Image]:
    return crowd(count, steps, urgent=False, **rest)


def simulated(costs: Table, images: list[Image], share: float = SHARE, most: int = 8) -> Simulation:
    policy = informed(costs, "b", informed(costs, "a", Policy(max_rows=most, share=share)))
    return Simulation(policy, table(costs), images, share=share).run()


def seconds_of_others(done: Simulation, costs: Table, until: float) -> tuple[float, float]:
    """Of calls without urgent rows, and of those with, until then."""
    found = [0.0, 0.0]
    for ran in done.batches:
        if ran.began < until:
            found[any(image.urgent for image in ran.images)] += costs[ran.bucket]
    return found[0], found[1]


# Under simulated loads.


def test_an_urgent_image_is_made_as_if_it_were_alone_but_for_the_call_that_has_begun() -> None:
    alone = Image(steps=20)
    simulated(CPU, [alone])
    urgent = Image(steps=20, arrives=2.0)
    done = simulated(CPU, [urgent, *bulk()])
    assert urgent.ended - 2.0 <= alone.ended + CPU[8] + 2 * CPU[8]
    assert min(image.ended for image in done.images if not image.urgent) > urgent.ended


def test_those_who_began_before_end_after_and_lose_no_more_than_the_urgent_had() -> None:
    alone = simulated(CPU, bulk()).ended
    urgent = [Image(steps=20, arrives=place, think=0.003) for place in (1.0, 4.0, 7.0)]
    done = simulated(CPU, [*urgent, *bulk()])
    assert done.ended <= alone + 3 * (20 * (CPU[2] + 0.003) + CPU[8])


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("group", ["a", "b"])
def test_they_have_their_share_beside_urgent_images_without_end(share: float, group: str) -> None:
    """Also where urgent ones are of another size."""
    urgent = [Image(steps=300, group=group, think=0.001) for _ in range(3)]
    done = simulated(CPU, [*urgent, *bulk(steps=4000)], share)
    until = min(image.ended for image in urgent)
    others, rest = seconds_of_others(done, CPU, until)
    assert others / (others + rest) == pytest.approx(share, abs=0.03)


def test_without_a_share_they_stand_until_no_urgent_image_is_in_its_steps() -> None:
    urgent = [Image(steps=100, think=0.001), Image(steps=100, arrives=1.0, think=0.001)]
    done = simulated(CPU, [*urgent, *bulk(steps=50)], share=0.0)
    first = min(image.arrives for image in urgent)
    last = max(image.ended for image in urgent)
    meanwhile = [ran for ran in done.batches if first + CPU[8] < ran.began < last - STANDING]
    assert meanwhile
    assert all(any(image.urgent for image in ran.images) for ran in meanwhile)


def test_where_rows_cost_next_to_nothing_they_go_with_the_urgent() -> None:
    urgent = Image(steps=40, arrives=0.5)
    images = bulk(3, steps=40)
    simulated(FLAT, [urgent, *images])
    assert max(image.ended for image in images) < urgent.ended  # they stood still for none of its steps
    assert urgent.ended - 0.5 <= 41 * (FLAT[8] + 0.02)


def test_those_who_step_are_waited_for_as_long_as_its_call_stays_cheap() -> None:
    waiting = [Waiting("a", 2, 1.0), Waiting("a", 2, 0.9, urgent=False)]
    policy = informed(LAUNCHES)
    policy.standing.went(1.0, beside=True)
    until = 1.0 + JOIN * LAUNCHES[2] - LAUNCHES[8]
    assert policy.choose(waiting, {"a": 2}, 1.0) == pytest.approx(until)
    assert policy.choose(waiting, {"a": 2}, until + 0.001) == Batch((0, 1), 4)
    assert policy.choose([*waiting, *waiting[1:] * 2], {"a": 4}, 1.0) == Batch((0, 1, 2, 3), 8)  # it is full


def test_no_more_of_them_than_keep_its_call_cheap() -> None:
    """A call of 8 rows is cheap enough, one of 16 is not: three may go along, those that came first."""
    assert LAUNCHES[8] <= JOIN * LAUNCHES[2] < LAUNCHES[16]
    waiting = [Waiting("a", 2, 0.1 * place, urgent=False) for place in range(6)]
    waiting += [Waiting("a", 2, 0.9), Waiting("b", 2, 0.0, urgent=False), Waiting("a", 2, 0.0, urgent=False, solo=True)]
    assert informed(LAUNCHES).choose(waiting, {}, 1.0) == Batch((6, 0, 1, 2), 8)
    dear = informed(CPU)
    assert dear.choose(waiting, {}, 1.0) == Batch((6,), 2)


def test_padding_is_theirs() -> None:
    waiting = [
        Waiting("a", 1, 0.0, urgent=False),
        Waiting("a", 2, 0.1),
        Waiting("a", 1, 0.2),
        Waiting("a", 1, 0.3, urgent=False),
    ]
    assert informed(CPU).choose(waiting, {}, 1.0) == Batch((1, 2, 0), 4)


def test_nobody_goes_with_an_urgent_image_that_wants_to_be_alone() -> None:
    waiting = [Waiting("a", 2, 0.0, urgent=False), Waiting("a", 2, 0.5, solo=True)]
    assert informed(FLAT).choose(waiting, {}, 1.0) == Batch((1,), 2)


def test_an_urgent_image_between_two_steps_is_waited_for_but_not_for_long() -> None:
    waiting = [Waiting("a", 2, 0.0, urgent=False)]
    policy = informed(CPU, "a", Policy(share=0.0))
    assert policy.choose(waiting, {}, 1.0, Expected({"a": 1}, 1.2)) == 1.2
    assert policy.choose(waiting, {}, 1.2, Expected({"a": 1}, 1.2)) == Batch((0,), 2)


def test_urgent_images_wait_for_company_of_urgent_ones_alone() -> None:
    policy = informed(LAUNCHES, "a", Policy(max_rows=4))
    waiting = [Waiting("a", 2, 1.0), Waiting("a", 2, 0.5, urgent=False)]
    assert informed(CPU).choose(waiting, {"a": 5}, 1.0) == Batch((0,), 2)
    saved = 2 * LAUNCHES[2] - LAUNCHES[4]
    policy.standing.went(1.0, beside=True)
    later = policy.choose(waiting, {"a": 1}, 1.0, Expected({"a": 1}, 1.2))
    assert later == pytest.approx(1.0 + saved)


def test_short_urgent_images_one_after_the_other_do_not_add_up() -> None:
    """Their turn comes for having stood still, which they have not where the model was theirs between."""
    standing = Standing(0.05)
    standing.went(0.07, beside=False)
    for _ in range(50):
        standing.stood(0.5)
        assert not standing.due
        standing.went(0.07, beside=False)
    standing.stood(0.7)
    assert standing.due


def test_when_their_turn_comes_while_the_model_stands_still_is_known() -> None:
    standing = Standing(0.1)
    standing.went(0.2, beside=True)
    wait = standing.due_in
    assert wait == pytest.approx(0.3 * 9)
    standing.idles(5.0)
    standing.ended(5.0 + wait)
    standing.ended(99.0)
    assert standing.due and standing.due_in <= 0.001
    assert Standing(0.0).due_in == float("inf")


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_cannot_be(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        Policy(share=share)


# In an engine.


def stepped(name: str, order: list[str]) -> Callable[..., torch.Tensor]:
    def run(sample: torch.Tensor, *_: object) -> torch.Tensor:
        order.append(name)
        return sample

    return run


class Stopped(Exception):
    pass


def waits(engine: Engine, count: int) -> None:
    while engine.stats().waiting < count:
        pass


def hurried(engine: Engine, ticket: Ticket, order: list[str], steps: int) -> None:
    """An urgent image."""
    for _ in range(steps):
        engine.denoise(stepped("urgent", order), (torch.zeros(1, 4),), {}, ticket)


def test_a_thread_is_urgent_unless_it_says_otherwise() -> None:
    assert is_urgent()
    with asking(urgent=False):
        assert not is_urgent()
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(is_urgent).result()
        with asking(urgent=True):
            assert is_urgent()
        assert not is_urgent()
    assert is_urgent()


def test_calls_and_steps_of_others_stand_still_while_an_urgent_image_is_in_its_steps() -> None:
    order: list[str] = []

    def other() -> None:
        with asking(urgent=False), engine.image(urgent=False) as ticket:
            engine.call(order.append, "call")
            engine.denoise(stepped("step", order), (torch.zeros(1, 4),), {}, ticket)

    with Engine(1, Policy(share=0.0)) as engine, ThreadPoolExecutor(2) as pool, engine.image() as ticket:
        with held(engine):
            urgent = pool.submit(hurried, engine, ticket, order, 20)
            waits(engine, 1)
            late = pool.submit(other)
            while not engine._agenda.others:
                pass
        urgent.result()
        engine.leave(ticket)
        late.result()
    assert order == ["urgent"] * 20 + ["call", "step"]


def test_between_an_urgent_call_and_the_next_of_its_thread_others_stand_still_for_a_moment() -> None:
    """From its prompt to its first step, from its last step to its picture."""
    order: list[str] = []

    def other() -> None:
        with asking(urgent=False):
            engine.call(order.append, "other")

    with Engine(1, Policy(share=0.0)) as engine, ThreadPoolExecutor(1) as pool:
        with engine.image() as ticket:
            engine.call(order.append, "prompt")
            late = pool.submit(other)
            while not engine._agenda.others and not late.done():
                pass
            hurried(engine, ticket, order, 2)
            engine.leave(ticket)
            engine.call(order.append, "picture")
        late.result(10)
    assert order in (
        ["prompt", "urgent", "urgent", "picture", "other"],
        ["prompt", "other", "urgent", "urgent", "picture"],
    )


def test_an_image_that_stands_still_hears_that_it_is_to_end_and_hangs_nobody() -> None:
    """A cancel, a deadline, a drain: asked while it waits, and no call runs that a guard could take for a hang."""
    order: list[str] = []
    over = threading.Event()

    def check() -> None:
        if over.is_set():
            raise Stopped

    with Engine(1, Policy(share=0.0)) as engine, ThreadPoolExecutor(1) as pool:
        urgent, standing = Ticket(), Ticket(urgent=False, on_wait=check)
        hurried(engine, urgent, order, 1)

        def stands() -> None:
            with engine.image(urgent=False):
                engine.denoise(stepped("step", order), (torch.zeros(1, 4),), {}, standing)

        with held(engine):  # the urgent image's next call is there as soon as the engine looks
            late = pool.submit(stands)
            waits(engine, 1)
            over.set()
            with pytest.raises(Stopped):
                late.result(10)
        engine.leave(standing)
        assert not engine.stats().waiting
        assert engine.busy_seconds() < 10
        engine.leave(urgent)
    assert order == ["urgent"]


@pytest.mark.parametrize("kind", ["call", "step"])
def test_urgent_calls_without_end_leave_others_their_share(kind: str) -> None:
    """Of pictures that are decoded or encoded, say: nothing of them is denoised."""
    order: list[str] = []

    def work(name: str) -> None:
        order.append(name)
        for _ in range(20):
            torch.ones(200, 200) @ torch.ones(200, 200)

    def urgent() -> None:
        while order.count("other") < 10:
            engine.call(work, "urgent")

    def module(sample: torch.Tensor) -> torch.Tensor:
        work("other")
        return sample

    with Engine(1, Policy(share=0.2)) as engine, ThreadPoolExecutor(3) as pool:
        several = [pool.submit(urgent) for _ in range(3)]
        with asking(urgent=False), engine.image(urgent=False) as ticket:
            for _ in range(10):
                if kind == "call":
                    engine.call(work, "other")
                else:
                    engine.denoise(module, (torch.zeros(1, 4),), {}, ticket)
        for one in several:
            one.result(10)
    assert 1.5 < order.count("urgent") / order.count("other") < 12, order  # four is what their share says


def test_a_call_that_waits_is_withdrawn_where_its_thread_is_to_end_and_one_that_has_begun_is_not() -> None:
    """What it does may be held by a context that would not know of it."""
    over, begun, gate, done = threading.Event(), threading.Event(), threading.Event(), list[str]()

    def check() -> None:
        if over.is_set():
            raise Stopped

    def long() -> str:
        begun.set()
        assert gate.wait(10)
        return "done"

    def ask(engine: Engine, work: Callable[[], object]) -> object:
        with asking(urgent=False, check=check):
            return engine.call(work)

    with Engine(1) as engine, ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, engine, long)
        assert begun.wait(10)
        second = pool.submit(ask, engine, lambda: done.append("for nothing"))
        while not engine._agenda.others:
            pass
        over.set()
        with pytest.raises(Stopped):
            second.result(10)
        assert not first.done()
        gate.set()
        assert first.result(10) == "done"
        assert not engine._agenda.others
    assert done == []
