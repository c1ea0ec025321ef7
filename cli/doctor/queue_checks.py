"""What `darkroom doctor` finds in the queues: jobs that wait in vain, were given up, or lost their workers."""

from collections.abc import Iterator
from typing import Any

from darkroom.cli.doctor.check import Check
from darkroom.cli.screen import NAMED, some
from darkroom.tasks import QueueBroken, State, TaskSettings
from darkroom.tasks.models import Market, read_market
from darkroom.tasks.places import Place
from darkroom.tasks.redis_io import BlockingIO, Key, Operation, command

_TYPES = dict.fromkeys(("leases", "delayed", "deadlines", "dead", "deaths", "unreadable"), "zset")
_TYPES |= {f"index:{state}": "zset" for state in State} | {"lanes": "set", "marks": "hash", "models": "hash"}
_TYPES |= {"offers": "hash", "tenants": "hash", "paces": "hash", "paused": "set"}
_TYPES |= {"feed": "stream", "clock": "string", "garbage": "list"}
_LATE_MS = 10_000  # after its end, a lease or a retry should have been seen to: the janitor looks every two seconds


def jobs() -> Iterator[Check]:
    """How many wait and run, and what is wrong with them."""
    io = BlockingIO(TaskSettings())
    try:
        market = io.run(read_market())
        waiting = io.run(_waiting())
        strange = io.run(_strange())
        running, retrying, late, dead, deaths, garbage, unreadable = io.run(_counts())
        ids = io.run(_unreadable())
    finally:
        io.close()
    there = f"{sum(waiting.values())} wait, {running} run, {retrying} wait for their next try"
    yield Check("jobs", "ok", there)
    yield from _unserved(waiting, market)
    hint = "somebody else wrote there: delete it in Redis; the janitor writes anew what it held of jobs"
    yield from (Check("jobs", "broken", words, hint) for words in strange)
    if late:
        hint = "the janitor is a duty of every worker: start one, or see why those that run do not reach Redis"
        yield Check(
            "jobs", "warning", f"{late} have lost their worker, or are due again, and nobody sees to them", hint
        )
    if deaths:
        hint = "their logs and the system's log may tell, such as of its memory running out"
        yield Check("jobs", "warning", f"{deaths} workers ended without a word in the last ten minutes", hint)
    if dead:
        yield Check("jobs", "warning", f"{dead} were given up", "`darkroom dead list` says why")
    if unreadable:
        hint = "`darkroom status ID` says why, `darkroom delete ID` forgets them"
        yield Check("jobs", "warning", f"{unreadable} have records that cannot be read: {some(ids, unreadable)}", hint)
    if garbage:
        hint = "somebody else writes into these queues; `darkroom dead list` shows what"
        yield Check("jobs", "warning", f"{garbage} messages in queues were none", hint)


def _unserved(waiting: dict[str, int], market: Market) -> Iterator[Check]:
    for lane, count in sorted(waiting.items()):
        place = Place.parse(lane)
        if not count or market.can(place.model, place.needs):
            continue
        hint = f"start one: darkroom worker --model {place.model}"
        if not place.needs:
            yield Check("jobs", "warning", f"{count} wait in {lane}, and no worker serves {place.model}", hint)
            continue
        words = f"{count} wait in {place.model}:{place.lane} that need {', '.join(place.needs)}"
        lacking = f"{words}, and no worker of {place.model} has that"
        yield Check("jobs", "warning", lacking, f"{hint}, of a version that has it")


def _waiting() -> Operation[dict[str, int]]:
    lanes = yield from _lanes()
    counts = (yield [command("ZCARD", Key(f"queued:{lane}"), alone=True) for lane in lanes]) if lanes else []
    return dict(zip(lanes, map(_number, counts), strict=True))


def _lanes() -> Operation[list[str]]:
    found = yield command("SMEMBERS", Key("lanes"), alone=True)
    return sorted(lane.decode(errors="replace") for lane in found) if not isinstance(found, QueueBroken) else []


def _unreadable() -> Operation[list[str]]:
    """The first ids; lists may lack them, since nobody looks after such jobs."""
    found = yield command("ZRANGE", Key("unreadable"), 0, NAMED - 1, alone=True)
    return [job_id.decode(errors="replace") for job_id in found] if not isinstance(found, QueueBroken) else []


def _counts() -> Operation[list[int]]:
    seconds, micros = yield command("TIME")  # what these sets hold was written by the server's clock
    now_ms = int(seconds) * 1000 + int(micros) / 1000
    late, lately = f"{now_ms - _LATE_MS:.0f}", f"{now_ms - 600_000:.0f}"
    asked: list[tuple[str, ...]] = [
        ("ZCARD", "index:running"),
        ("ZCARD", "delayed"),
        ("ZCOUNT", "leases", "-inf", late),
        ("ZCOUNT", "delayed", "-inf", late),
        ("ZCARD", "dead"),
        ("ZCOUNT", "deaths", lately, "+inf"),
        ("LLEN", "garbage"),
        ("ZCARD", "unreadable"),
    ]
    replies = yield [command(verb, Key(name), *more, alone=True) for verb, name, *more in asked]
    running, retrying, lost, due, *others = map(_number, replies)
    return [running, retrying, lost + due, *others]


def _number(reply: Any) -> int:
    """Where a key is of another type, which is told of it, nothing is counted."""
    return 0 if isinstance(reply, QueueBroken) else int(reply)


def _strange() -> Operation[list[str]]:
    """What is of another type than the scripts need it, in words."""
    wanted = dict(_TYPES)
    for lane in (yield from _lanes()):
        wanted |= {f"queued:{lane}": "zset", f"queue:{lane}": "list", f"turn:{lane}": "zset"}
    types = [found.decode() for found in (yield [command("TYPE", Key(name)) for name in wanted])]
    return [
        f"the key {name} is a {found}, not a {right}"
        for (name, right), found in zip(wanted.items(), types, strict=True)
        if found not in ("none", right)
    ]
