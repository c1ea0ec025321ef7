"""Following jobs: watch, wait, the feed, and readers that have none of our code."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import pytest
import redis

from darkroom.tasks import (
    TERMINAL_EVENTS,
    AsyncDarkroom,
    Darkroom,
    Event,
    InvalidRequest,
    State,
    TaskSettings,
    Txt2Img,
    WaitTimeout,
)
from darkroom.tasks import claims as c
from tests.integration.hand import RULES, Hand

CAT = Txt2Img(prompt="a cat", model="sdxl")
Beside = Callable[..., Future[Any]]
LIFE = ["job.queued", "job.started", "job.progress", "job.image", "job.succeeded"]


@pytest.fixture
def beside() -> Iterator[Beside]:
    """Runs a call on another thread."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def order(event_id: str) -> tuple[int, int]:
    ms, _, sequence = event_id.partition("-")
    return int(ms), int(sequence)


def test_a_job_from_its_start_to_its_end(client: Darkroom, hand: Hand) -> None:
    handle = client.submit(CAT)
    hand.run(handle.id)
    events = list(handle.watch())
    assert [event.type for event in events] == LIFE
    assert {(event.job_id, event.tenant) for event in events} == {(handle.id, "default")}
    ids = [order(event.id) for event in events]
    assert ids == sorted(set(ids))
    assert events[0].data == {"model": "sdxl", "lane": "interactive", "kind": "txt2img", "reason": "submitted"}
    assert (events[1].data["claim"], events[3].data["index"]) == (1, 0)


def test_from_any_event_on(client: Darkroom, hand: Hand) -> None:
    handle = client.submit(CAT)
    hand.run(handle.id)
    events = list(handle.watch())
    for number, event in enumerate(events):
        assert list(handle.watch(after=event.id)) == events[number + 1 :]


@pytest.mark.parametrize("after", ["", "x", "-", "5-", "1-x", "$", "9" * 30, "²-1", "1-1-1", "+"])
def test_what_is_no_event_id(client: Darkroom, after: str) -> None:
    handle = client.submit(CAT)
    with pytest.raises(InvalidRequest, match="event id"):
        next(handle.watch(after=after))
    with pytest.raises(InvalidRequest, match="event id"):
        next(client.feed(after=after))


def test_events_come_live(client: Darkroom, hand: Hand, beside: Beside) -> None:
    """The work is begun by the watcher, once it has seen the job wait."""
    handle = client.submit(CAT)
    types = []
    for event in handle.watch():
        types.append(event.type)
        if event.type == "job.queued":
            beside(hand.run, handle.id)
    assert types == LIFE


def test_more_events_than_a_page_holds(client: Darkroom, hand: Hand) -> None:
    handle = client.submit(CAT)
    held = hand.claim(handle.id)
    for step in range(600):
        hand.io.run(c.progress(held, {"image": 0, "step": step, "of": 600, "preview": False}, None))
    hand.succeed(held)
    steps = [event.data["step"] for event in handle.watch() if event.type == "job.progress"]
    assert steps == list(range(600))
    assert handle.wait(1).state is State.SUCCEEDED


def test_the_newest_preview_is_shown_live(client: Darkroom, hand: Hand) -> None:
    handle = client.submit(CAT)
    held = hand.claim(handle.id)
    watching = handle.watch()
    assert [event.type for event in islice(watching, 2)] == LIFE[:2]
    hand.io.run(c.progress(held, {"image": 0, "step": 1, "of": 4, "preview": True}, b"\xff\xd8 jpeg"))
    event = next(watching)
    assert event.data == {"image": 0, "step": 1, "of": 4, "preview": "data:image/jpeg;base64,/9gganBlZw=="}


def test_wait_returns_the_job_as_it_ended(client: Darkroom, hand: Hand, beside: Beside) -> None:
    handle, other = client.submit(CAT), client.submit(CAT)
    beside(hand.run, handle.id)
    assert handle.wait(10).state is State.SUCCEEDED
    assert handle.wait(0).state is State.SUCCEEDED
    other.cancel()
    assert other.wait().state is State.CANCELED


@pytest.mark.parametrize("timeout", [0, 0.05, -1])
def test_wait_gives_up_in_time(client: Darkroom, timeout: float) -> None:
    handle = client.submit(CAT)
    with pytest.raises(WaitTimeout, match=handle.id):
        handle.wait(timeout)
    assert handle.get().state is State.QUEUED


def test_a_wait_that_is_cancelled_ends_and_leaves_the_client_whole(task_settings: TaskSettings) -> None:
    """As bots do with asyncio.wait_for, at whatever moment: no answer may come to the wrong question afterwards."""

    async def use() -> None:
        async with AsyncDarkroom(task_settings) as client:
            ids = [(await client.submit(CAT)).id for _ in range(3)]
            for moment in range(40):
                waiting = asyncio.create_task(client.wait(ids[moment % 3]))
                for _ in range(moment):
                    await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait([waiting], timeout=10)
                assert waiting.cancelled()
                assert [job.id for job in await client.jobs()] == ids[::-1]

    asyncio.run(use())


def test_each_job_ends_once(client: Darkroom, hand: Hand) -> None:
    """Whoever else wants to end it: the stream holds one terminal event, and it is the last."""
    for end in (hand.succeed, lambda held: hand.io.run(c.confirm_cancel(held, RULES))):
        handle = client.submit(CAT)
        held = hand.claim(handle.id)
        handle.cancel()
        end(held)
        handle.cancel()
        hand.succeed(held)
        hand.io.run(c.confirm_cancel(held, RULES))
        types = [event.type for event in handle.watch()]
        assert sum(kind in TERMINAL_EVENTS for kind in types) == 1
        assert types[-1] in TERMINAL_EVENTS


def test_the_feed_has_the_state_changes_of_all_jobs(client: Darkroom, hand: Hand) -> None:
    begin = next(client.submit(CAT).watch()).id
    one, two = client.submit(CAT), client.submit(Txt2Img(prompt="a cat", model="sdxl", tenant="acme"))
    hand.run(two.id)
    one.cancel()
    events = list(islice(client.feed(after=begin), 5))
    assert [(event.type, event.job_id) for event in events] == [
        ("job.queued", one.id),
        ("job.queued", two.id),
        ("job.started", two.id),
        ("job.succeeded", two.id),
        ("job.canceled", one.id),
    ]
    assert [event for event in events if event.job_id == two.id] == [
        event for event in two.watch() if event.type not in ("job.progress", "job.image")
    ]


def test_a_reader_of_the_feed_who_comes_back_misses_nothing(client: Darkroom, hand: Hand) -> None:
    begin = next(client.submit(CAT).watch()).id
    ids = [client.submit(CAT).id for _ in range(300)]
    seen: list[Event] = []
    while len(seen) < 300:
        seen += islice(client.feed(after=seen[-1].id if seen else begin), 70 if len(seen) < 280 else 20)
    assert [event.job_id for event in seen] == ids


def test_the_feed_begins_now(client: Darkroom, task_settings: TaskSettings, beside: Beside) -> None:
    before, seen = client.submit(CAT), threading.Event()

    def submit_until_seen() -> list[str]:
        ids = []
        with Darkroom(task_settings) as other:
            while not seen.wait(0.02):
                ids.append(other.submit(CAT).id)
        return ids

    later = beside(submit_until_seen)
    first = next(client.feed())
    seen.set()
    assert first.job_id in later.result()
    assert first.job_id != before.id


def test_events_of_a_plain_client(
    client: Darkroom, hand: Hand, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    """XREAD on the feed and on a job's stream: five text fields, and one id in both."""
    handle = client.submit(CAT)
    hand.run(handle.id)
    prefix = task_settings.redis_prefix
    (_, feed), (_, own) = raw.xread({f"{prefix}feed": "0", f"{prefix}events:{handle.id}": "0"})
    assert all(set(fields) == {"type", "time", "job_id", "tenant", "data"} for _, fields in feed + own)
    shared = [entry for entry in own if entry[1]["type"] not in ("job.progress", "job.image")]
    assert feed == shared
    assert [event.id for event in handle.watch()] == [entry_id for entry_id, _ in own]


def test_a_consumer_group_of_a_plain_client(
    client: Darkroom, hand: Hand, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    """Two consumers share the feed; what one took and never acknowledged, the other claims."""
    feed = f"{task_settings.redis_prefix}feed"
    raw.xgroup_create(feed, "billing", id="0", mkstream=True)
    ids = [client.submit(CAT).id for _ in range(4)]

    def take(consumer: str, count: int) -> list[tuple[str, str]]:
        ((_, entries),) = raw.xreadgroup("billing", consumer, {feed: ">"}, count=count)
        return [(entry_id, fields["job_id"]) for entry_id, fields in entries]

    one, two = take("one", 2), take("two", 2)
    assert [job_id for _, job_id in one + two] == ids
    raw.xack(feed, "billing", *[entry_id for entry_id, _ in two])
    _, claimed, _ = raw.xautoclaim(feed, "billing", "two", min_idle_time=0)
    assert [entry_id for entry_id, _ in claimed] == [entry_id for entry_id, _ in one]


def test_an_entry_that_is_none_of_ours_keeps_nobody_from_the_rest(
    client: Darkroom, hand: Hand, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    prefix = task_settings.redis_prefix
    handle = client.submit(CAT)
    begin = next(handle.watch()).id
    for stream in ("feed", f"events:{handle.id}"):
        raw.xadd(f"{prefix}{stream}", {"hello": "world"}, id=f"{begin}1")
    hand.run(handle.id)
    assert [event.type for event in handle.watch()] == LIFE
    assert [event.type for event in islice(client.feed(after=begin), 2)] == ["job.started", "job.succeeded"]


def test_ids_rise_when_the_clock_steps_back(
    client: Darkroom, hand: Hand, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    ahead = 4_000_000_000_000
    raw.set(f"{task_settings.redis_prefix}clock", f"{ahead}-7")
    handle = client.submit(CAT)
    hand.run(handle.id)
    events = list(handle.watch())
    assert [event.id for event in events] == [f"{ahead}-{number}" for number in range(8, 13)]
    assert all(event.time < 4_000_000_000 for event in events)
