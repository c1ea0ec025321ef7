"""What `darkroom doctor` finds in the queues: jobs that wait in vain, were given up, or lost their workers."""

from collections.abc import Iterator

from darkroom.cli.doctor.check import Check
from darkroom.tasks import TaskSettings
from darkroom.tasks.models import Market, read_market
from darkroom.tasks.redis_io import BlockingIO, Call, Key, Operation, command

_LATE_MS = 10_000  # after its end, a lease or a retry should have been seen to: the janitor looks every two seconds


def jobs() -> Iterator[Check]:
    """How many wait and run, and what is wrong with them."""
    io = BlockingIO(TaskSettings())
    try:
        market = io.run(read_market())
        waiting = io.run(_waiting())
        running, retrying, late, dead, deaths, garbage, unreadable = io.run(_counts())
    finally:
        io.close()
    there = f"{sum(waiting.values())} wait, {running} run, {retrying} wait for their next try"
    yield Check("jobs", "ok", there)
    yield from _unserved(waiting, market)
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
        hint = "`darkroom list` names them, `darkroom status ID` says why; nobody looks after them"
        yield Check("jobs", "warning", f"{unreadable} have records that cannot be read", hint)
    if garbage:
        hint = "somebody else writes into these queues; `darkroom dead list` shows what"
        yield Check("jobs", "warning", f"{garbage} messages in queues were none", hint)


def _unserved(waiting: dict[str, int], market: Market) -> Iterator[Check]:
    for lane, count in sorted(waiting.items()):
        model = lane.rpartition(":")[0]
        if count and not market.workers.get(model):
            hint = f"start one: darkroom worker --model {model}"
            yield Check("jobs", "warning", f"{count} wait in {lane}, and no worker serves {model}", hint)


def _waiting() -> Operation[dict[str, int]]:
    lanes = sorted(lane.decode(errors="replace") for lane in (yield command("SMEMBERS", Key("lanes"))))
    counts = (yield [command("ZCARD", Key(f"queued:{lane}")) for lane in lanes]) if lanes else []
    return dict(zip(lanes, counts, strict=True))


def _counts() -> Operation[list[int]]:
    seconds, micros = yield command("TIME")  # what these sets hold was written by the server's clock
    now_ms = int(seconds) * 1000 + int(micros) / 1000
    late, lately = f"{now_ms - _LATE_MS:.0f}", f"{now_ms - 600_000:.0f}"
    asked: list[Call] = [
        command("ZCARD", Key("index:running")),
        command("ZCARD", Key("delayed")),
        command("ZCOUNT", Key("leases"), "-inf", late),
        command("ZCOUNT", Key("delayed"), "-inf", late),
        command("ZCARD", Key("dead")),
        command("ZCOUNT", Key("deaths"), lately, "+inf"),
        command("LLEN", Key("garbage")),
        command("ZCARD", Key("unreadable")),
    ]
    running, retrying, lost, due, *others = [int(reply) for reply in (yield asked)]
    return [running, retrying, lost + due, *others]
