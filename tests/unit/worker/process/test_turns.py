"""In which order lanes are read."""

from concurrent.futures import ThreadPoolExecutor

from darkroom.tasks.places import Place
from darkroom.worker.process.turns import Turns

GLOW = [Place("sdxl", lane, ("glow",)) for lane in ("bulk", "interactive")]


def read(turns: Turns, waiting: dict[str, int]) -> list[str]:
    """The lanes in the order in which their messages come, until none is left."""
    left, found = dict(waiting), []
    while any(left.values()):
        queue = next(queue for queue in turns.consume(0) if left.get(queue.removeprefix("queue:")))
        turns.rotate(queue)
        found.append(queue.removeprefix("queue:"))
        left[found[-1]] -= 1
    return found


def test_interactive_goes_before_bulk_and_lanes_of_a_class_take_turns() -> None:
    turns = Turns(["sdxl"])
    assert turns.admit(GLOW)
    plain, glow = "sdxl:interactive", "sdxl.NEEDS.glow:interactive"
    came = read(turns, {plain: 4, glow: 2, "sdxl:bulk": 2, "sdxl.NEEDS.glow:bulk": 1})
    assert came[:4] in ([plain, glow] * 2, [glow, plain] * 2)
    assert came[4:6] == [plain, plain]
    assert set(came[6:8]) == {"sdxl:bulk", "sdxl.NEEDS.glow:bulk"}


def test_models_of_one_worker_take_turns() -> None:
    assert read(Turns(["a", "b"]), {"a:bulk": 2, "b:bulk": 2}) == ["a:bulk", "b:bulk"] * 2


def test_lanes_come_and_go_and_those_of_the_models_stay() -> None:
    turns = Turns(["sdxl"])
    home = turns.consume(0)
    assert turns.admit(GLOW[:1])
    assert not turns.admit(GLOW[:1])
    assert turns.consume(0) == [*home[:2], GLOW[0].queue, home[2]]
    turns.rotate(GLOW[0].queue)
    assert turns.admit(GLOW[1:])
    assert set(turns.consume(0)) == {*home, GLOW[1].queue}
    assert turns.admit([])
    assert set(turns.consume(0)) == set(home)


def test_a_class_of_lanes_that_is_not_known_is_not_read() -> None:
    turns = Turns(["sdxl"])
    assert not turns.admit([Place("sdxl", "overnight", ("glow",))])


def test_other_lanes_than_those_that_were_asked_for_are_not_read() -> None:
    turns = Turns(["sdxl"], ["training"])
    assert turns.admit([Place("sdxl", lane, ("kind:finetune",)) for lane in ("bulk", "training")])
    assert turns.consume(0) == ["queue:sdxl:training", "queue:sdxl.NEEDS.kind.IS.finetune:training"]


def test_one_training_at_a_time() -> None:
    turns = Turns(["sdxl"])
    turns.admit([Place("sdxl", "training", ("kind:finetune",))])
    every = turns.consume(0)
    with turns.running("bulk") as bulk, turns.running("training") as first:
        assert bulk and first
        assert turns.consume(0) == ["queue:sdxl:interactive", "queue:sdxl:bulk"]
        with turns.running("training") as second:  # its message had been read by then
            assert not second
        assert turns.consume(0) == ["queue:sdxl:interactive", "queue:sdxl:bulk"]
    assert turns.consume(0) == every


def test_urgent_places_are_for_interactive_jobs_while_others_are_in_some_of_the_rest() -> None:
    turns = Turns(["sdxl"])
    assert [str(place) for place in turns.urgent()] == ["sdxl:interactive"]
    with turns.running("interactive"), turns.running("interactive"):
        assert not turns.wait_for_others(2, 0.0)  # the lane has filled its places itself
        assert not turns.wait_for_others(3, 0.0)
        with turns.running("bulk"):
            assert turns.wait_for_others(3, 0.0)
        with turns.running("training"):
            assert turns.wait_for_others(3, 0.0)
    assert not turns.wait_for_others(1, 0.0)


def test_who_waits_for_others_hears_when_they_come() -> None:
    turns = Turns(["sdxl"])
    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(turns.wait_for_others, 1, 60.0)
        with turns.running("bulk"):
            assert heard.result(10)
