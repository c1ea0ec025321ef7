"""One read for all who follow: what is read, who is given what, and what becomes of the slow and of errors."""

from collections.abc import Iterator
from typing import Any

import pytest

from darkroom.tasks import JobNotFound, QueueAuthFailed, QueueBroken, QueueUnavailable
from darkroom.tasks.redis_io import Call, Operation
from darkroom.tasks.streams import PAGE, Batch, Entry, Source, of_job
from darkroom.tasks.watchlist import DOUBTS, RESTLESS, Watcher, Watchlist


def entry(number: int, kind: str = "job.progress") -> Entry:
    fields = {"type": kind, "time": "1.5", "job_id": "a", "tenant": "default", "data": "{}"}
    return f"{number}-0".encode(), {key.encode(): value.encode() for key, value in fields.items()}


class Hand:
    """A list that is read step by step, without a server."""

    def __init__(self) -> None:
        self.list = Watchlist("darkroom:")
        self.rung: list[Watcher] = []
        self.operation: Operation[bool] | None = None

    def follow(self, name: str = "a", cursor: str = "0-0") -> Watcher:
        watcher = Watcher(of_job(name), Batch([], cursor), lambda: self.rung.append(watcher))
        assert self.list.look(watcher) is None
        return watcher

    def ask(self) -> Any:
        """Begins a turn: the arguments of the read, or what the turn ended with."""
        self.operation = self.list.turn()
        try:
            call = next(self.operation)
        except StopIteration as stop:
            return stop.value
        assert isinstance(call, Call)
        return [str(arg) for arg in call.args]

    def answer(self, reply: Any) -> Any:
        """The reply, or an error; what the turn asks next, or what it ended with."""
        assert self.operation
        try:
            if isinstance(reply, Exception):
                return self.operation.throw(reply)
            return self.operation.send(reply)
        except StopIteration as stop:
            return stop.value

    def tell(self, name: str, *entries: Entry) -> None:
        self.ask()
        assert self.answer([[f"darkroom:events:{name}".encode(), list(entries)]]) is True

    def ids(self, watcher: Watcher) -> list[str]:
        found = self.list.look(watcher)
        assert isinstance(found, Batch)
        return [event.id for event in found.events]


@pytest.fixture
def hand() -> Iterator[Hand]:
    hand = Hand()
    yield hand
    if hand.operation:
        hand.operation.close()


def run(operation: Any, *replies: Any) -> Any:
    """The result of an operation that is given these replies."""
    next(operation)
    for reply in replies:
        try:
            operation.send(reply)
        except StopIteration as stop:
            return stop.value
    raise AssertionError("it asks for more")


def test_one_read_names_all_streams(hand: Hand) -> None:
    for name, cursor in (("a", "5-1"), ("b", "0-0"), ("a", "5-1")):
        hand.follow(name, cursor)
    read = hand.ask()
    assert read[:2] == ["XREAD", "COUNT"] and "BLOCK" in read
    wake, *keys = read[read.index("STREAMS") + 1 :]
    assert wake.startswith("wake:")
    assert keys == ["events:a", "events:b", "0-0", "5-1", "0-0"]


def test_each_is_given_what_comes_and_the_next_read_goes_on_there(hand: Hand) -> None:
    one, two, other = hand.follow(), hand.follow(), hand.follow("b")
    hand.tell("a", entry(1), entry(2))
    assert hand.ids(one) == hand.ids(two) == ["1-0", "2-0"]
    assert hand.list.look(other) is None
    assert hand.rung == [one, two] or hand.rung == [two, one]
    assert "2-0" in hand.ask()


def test_who_read_some_by_themselves_is_not_given_it_again(hand: Hand) -> None:
    early, late = hand.follow(cursor="1-0"), hand.follow(cursor="2-0")
    hand.tell("a", entry(2), entry(3))
    assert hand.ids(early) == ["2-0", "3-0"]
    assert hand.ids(late) == ["3-0"]


def test_who_comes_with_an_older_cursor_reads_by_themselves_first(hand: Hand) -> None:
    hand.follow(cursor="7-0")
    late = Watcher(of_job("a"), Batch([], "5-0"), lambda: None)
    assert [event.id for event in run(hand.list.look(late), [b"running", [entry(6), entry(7)]]).events] == [
        "6-0",
        "7-0",
    ]
    assert hand.list.look(late) is None
    hand.tell("a", entry(8))
    assert hand.ids(late) == ["8-0"]


def test_a_slow_one_is_left_behind_and_loses_nothing(hand: Hand) -> None:
    slow, quick = hand.follow(), hand.follow()
    entries = [entry(number) for number in range(1, PAGE + 2)]
    for one in entries:
        hand.tell("a", one)
        assert len(hand.ids(quick)) == 1
        assert len(slow.held) <= PAGE
    first = run(hand.list.look(slow), [b"running", entries[:PAGE]])
    assert (len(first.events), first.more) == (PAGE, True)
    hand.tell("a", entry(PAGE + 2))  # while they catch up
    rest = run(hand.list.look(slow), [b"running", [*entries[PAGE:], entry(PAGE + 2)]])
    assert [event.id for event in rest.events] == [f"{PAGE + 1}-0", f"{PAGE + 2}-0"]
    hand.tell("a", entry(PAGE + 3))
    assert hand.ids(slow) == [f"{PAGE + 3}-0"]


def test_what_came_while_they_caught_up_is_read_once_more(hand: Hand) -> None:
    slow = hand.follow()
    slow.leave_behind()
    catching_up = hand.list.look(slow)
    assert catching_up and not isinstance(catching_up, Batch)
    next(catching_up)
    hand.tell("a", entry(1))  # after the server made the page
    with pytest.raises(StopIteration):
        catching_up.send([b"running", []])
    assert [event.id for event in run(hand.list.look(slow), [b"running", [entry(1)]]).events] == ["1-0"]


def test_many_streams_share_the_room_of_a_reply_and_are_read_with_a_rest(hand: Hand) -> None:
    hand.follow("a")
    assert hand.ask()[2] == str(PAGE)
    assert hand.list.rest == 0
    for number in range(4095):
        hand.follow(str(number))
    assert hand.ask()[2] == "1"
    assert hand.list.rest > RESTLESS * 1e-6


def test_a_read_under_way_is_ended_once_for_new_streams(hand: Hand) -> None:
    hand.follow("a")
    assert list(hand.list.interrupt()) == []  # nothing is under way
    wake = hand.ask()[6]
    hand.follow("a")
    assert list(hand.list.interrupt()) == []  # it has the stream
    hand.follow("b")
    (call,) = hand.list.interrupt()
    assert isinstance(call, Call) and (call.script, f"wake:{call.args[0]}") == ("wake", wake)
    hand.follow("c")
    assert list(hand.list.interrupt()) == []
    hand.answer([[f"darkroom:{wake}".encode(), [(b"9-0", {})]]])
    assert hand.ask()[-4:] == ["9-0", "0-0", "0-0", "0-0"]


def test_a_user_who_may_not_wake_waits_for_the_end_of_the_read(hand: Hand) -> None:
    hand.follow("a")
    hand.ask()
    hand.follow("b")
    waking = hand.list.interrupt()
    next(waking)
    with pytest.raises(StopIteration):
        waking.throw(QueueAuthFailed("no"))


def test_where_nobody_follows_any_more_no_turn_is_due(hand: Hand) -> None:
    one, two = hand.follow("a"), hand.follow("a")
    assert (hand.list.begin(), hand.list.begin()) == (True, False)
    one.leave()
    assert "events:a" in hand.ask()
    two.leave()
    assert hand.ask() is False
    assert hand.list.begin()


@pytest.mark.parametrize(
    ("state", "looks"), [(None, True), (b"succeeded", True), (b"of a newer version", True), (b"running", False)]
)
def test_after_a_silence_the_record_is_looked_at(
    hand: Hand, state: bytes | None, *, looks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkroom.tasks.watchlist.BLOCK_SECONDS", 0)
    watcher = hand.follow()
    hand.ask()
    (call,) = hand.answer(None)
    assert call.args == ("HGET", "job:a", "state")
    assert hand.answer([state]) is True
    assert watcher.behind is looks
    if state is None:
        with pytest.raises(JobNotFound):
            run(hand.list.look(watcher), [None, []])


def test_a_connection_that_failed_is_doubted_before_all_hear_of_it(hand: Hand) -> None:
    watcher = hand.follow()
    for _ in range(DOUBTS - 1):
        hand.ask()
        assert hand.answer(QueueUnavailable("cut")).args[0] == "EXISTS"
        assert hand.answer(1) is True
        assert hand.list.look(watcher) is None
    hand.ask()
    hand.answer(QueueUnavailable("cut"))
    hand.answer(1)
    with pytest.raises(QueueUnavailable, match="cut"):
        hand.list.look(watcher)


def test_a_server_that_is_away_is_told_to_each_and_they_may_go_on(hand: Hand) -> None:
    watchers = [hand.follow("a"), hand.follow("b", "3-0")]
    hand.ask()
    hand.answer(QueueUnavailable("reset"))
    hand.answer(QueueUnavailable("refused"))
    raised = []
    for watcher in watchers:
        with pytest.raises(QueueUnavailable, match="refused") as caught:
            hand.list.look(watcher)
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    assert [event.id for event in run(hand.list.look(watchers[1]), [b"running", [entry(4)]]).events] == ["4-0"]
    assert hand.list.look(watchers[1]) is None
    assert hand.ask()[-1] == "4-0"


def test_a_stream_that_cannot_be_read_ends_its_own_watchers_alone(hand: Hand) -> None:
    good, bad = hand.follow("a"), hand.follow("b")
    hand.ask()
    assert hand.answer(QueueBroken("WRONGTYPE")).args[-2] == "events:a"
    assert hand.answer(None).args[-2] == "events:b"
    assert hand.answer(QueueBroken("WRONGTYPE")) is True
    with pytest.raises(QueueBroken):
        hand.list.look(bad)
    assert hand.list.look(good) is None
    assert "events:b" not in hand.ask()


def test_a_read_that_is_refused_for_no_streams_sake_ends_all(hand: Hand) -> None:
    watcher = hand.follow()
    hand.ask()
    hand.answer(QueueAuthFailed("no XREAD"))
    hand.answer(None)
    with pytest.raises(QueueAuthFailed):
        hand.list.look(watcher)


def test_a_feed_has_no_record_to_look_at(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkroom.tasks.watchlist.BLOCK_SECONDS", 0)
    source = Source(of_job("a").key, lambda _: (_ for _ in ()))
    assert hand.list.look(Watcher(source, Batch([], "0-0"), lambda: None)) is None
    hand.ask()
    assert hand.answer(None) is True
