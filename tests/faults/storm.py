"""Everything goes wrong at once, as a seed says, while jobs come in: what became of them, and how long it took."""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import redis

from darkroom.tasks import Darkroom, Event, QueueUnavailable

from . import orders
from .mix import TENANTS, inputs, request, shows, trains
from .place import IMAGES, JOBS, Place
from .verdict import faults
from .workers import until


@dataclass(frozen=True)
class Plan:
    """A storm; times in seconds. No worker is killed after `lasting`; after `longest` what has not ended is lost."""

    seed: int
    jobs: int = 300
    workers: int = 3
    submitting: float = 60.0
    kill_every: float = 2.0
    restarts: tuple[float, ...] = (15.0, 35.0, 55.0)  # of Redis
    restart_lasts: float = 2.0
    storage_away: tuple[float, float] = (20.0, 40.0)
    cut_every: float = 1.5
    wish_every: float = 0.5  # of a training
    order_every: float = 2.0  # a pause, a weight, a job that goes first
    lasting: float = 180.0
    longest: float = 900.0


JOBS_A_KILL = 4  # that have ended since the last one
PATIENCE = 3  # times `kill_every`


@dataclass
class Outcome:
    """What a storm did, and what is wrong after it; seconds."""

    seconds: float = 0.0
    kills: int = 0
    cuts: int = 0
    claims: int = 0
    wishes: int = 0  # for what a training has learned so far
    orders: int = 0  # pauses, weights, jobs that were let go first
    wrong: list[str] = field(default_factory=list)


def run(plan: Plan, place: Place) -> Outcome:
    """The storm, the calm after it, and the reckoning."""
    chance, outcome, began = random.Random(plan.seed), Outcome(), time.monotonic()
    place.ready(plan.workers)
    most_threads = max(place.workers.threads()) + JOBS + IMAGES
    with (
        _producer(plan, place) as ids,
        _reader(place) as seen,
        _wishes(plan, place, ids, outcome),
        _orders(plan, place, ids, outcome),
        _weather(plan, place, chance, outcome, lambda: len(_ended(seen))),
        suppress(AssertionError),  # the reckoning tells what has not ended
    ):
        until(lambda: set(ids) <= _ended(seen), "all jobs have ended", plan.longest)
    outcome.seconds = time.monotonic() - began
    place.ready(plan.workers)
    if max(threads := _threads_at_work(place, plan.workers)) > most_threads:
        outcome.wrong.append(f"threads were leaked: {threads}, and {most_threads} are needed")
    until(lambda: not place.knocks(), "the knocks are read that found nothing to start")
    if set(codes := place.workers.stop()) != {0}:
        outcome.wrong.append(f"workers did not stop well: {codes}")
    outcome.claims = sum(place.client.get(job_id).claims for job_id in ids)
    outcome.wrong += faults(place, ids, seen)
    return outcome


def _threads_at_work(place: Place, workers: int) -> list[int]:
    """How many threads each worker has once all of them have had their hands full."""
    jobs = [place.submit(num_images=4) for _ in range(8 * workers)]
    for job in jobs:
        job.wait(120)
    return place.workers.threads()


def _ended(seen: list[Event]) -> set[str]:
    return {event.job_id for event in seen if event.type in ("job.succeeded", "job.failed", "job.expired")}


@contextmanager
def _beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Does the work on a thread until the block ends; what it raises is raised here."""
    over, errors = threading.Event(), list[BaseException]()

    def guarded() -> None:
        try:
            work(over)
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if errors:
        raise errors[0]


@contextmanager
def _producer(plan: Plan, place: Place) -> Iterator[list[str]]:
    """Submits the jobs one after the other, each again under its id until it is taken in."""
    chance, given = random.Random(plan.seed), {tenant: inputs(place, tenant) for tenant in TENANTS}
    ids = [str(UUID(int=chance.getrandbits(128), version=4)) for _ in range(plan.jobs)]

    def submit(over: threading.Event) -> None:
        with Darkroom(place.settings) as client:
            for number, job_id in enumerate(ids):
                asked = request(number, place.model, given)
                while not over.wait(plan.submitting / plan.jobs):
                    with suppress(QueueUnavailable):
                        client.submit(asked, job_id=job_id)
                        break

    with _beside(submit):
        yield ids


@contextmanager
def _wishes(plan: Plan, place: Place, ids: list[str], outcome: Outcome) -> Iterator[None]:
    """Asks trainings for their LoRAs and samples as they are: such as wait, run or have ended, or are yet to come."""
    chance = random.Random(plan.seed)
    trainings = [(number, job_id) for number, job_id in enumerate(ids) if trains(number)]

    def wish(over: threading.Event) -> None:
        with Darkroom(place.settings) as client:
            while not over.wait(plan.wish_every):
                number, job_id = chance.choice(trainings)
                asked = client.sample_now if shows(number) and chance.random() < 1 / 2 else client.save_now
                with suppress(QueueUnavailable):
                    outcome.wishes += asked(job_id) == "requested"

    with _beside(wish):
        yield


@contextmanager
def _orders(plan: Plan, place: Place, ids: list[str], outcome: Outcome) -> Iterator[None]:
    """Pauses, weights and the like, while jobs wait and run."""

    def give(over: threading.Event) -> None:
        outcome.orders = orders.give(place, random.Random(plan.seed), ids, plan.order_every, over)

    orders.begin(place)
    with _beside(give):
        yield


@contextmanager
def _reader(place: Place) -> Iterator[list[Event]]:
    """Reads the feed from its beginning, and goes on where it was when Redis is back; at last it sees a job's end."""
    seen: list[Event] = []
    last = str(uuid4())

    def read(_: threading.Event) -> None:
        with Darkroom(place.settings) as client:
            while not seen or seen[-1].job_id != last:
                with suppress(QueueUnavailable):
                    for event in client.feed(after=seen[-1].id if seen else "0"):
                        seen.append(event)
                        if event.job_id == last:
                            break

    with _beside(read):
        try:
            yield seen
        finally:
            place.client.submit({"prompt": "the last", "model": place.model}, job_id=last)


@contextmanager
def _weather(
    plan: Plan, place: Place, chance: random.Random, outcome: Outcome, ended: Callable[[], int]
) -> Iterator[None]:
    """Workers die, Redis restarts, storage goes away, connections are cut; all is mended when the block ends."""

    def kill(over: threading.Event) -> None:
        calm, before, since = time.monotonic() + plan.lasting, 0, 0.0
        while not over.wait(plan.kill_every):
            # At the pace of the jobs, or a slow machine's would lose their workers until they are given up; but also
            # where none ends, as while Redis is away.
            if ended() < before + JOBS_A_KILL and time.monotonic() < since + PATIENCE * plan.kill_every:
                continue
            before, since = ended(), time.monotonic()
            at_work = [pid for pid in place.workers.living if place.workers.ready(pid)]
            # Of those at work: one that starts has nothing to lose, and on a slow machine none would ever be up.
            if at_work and time.monotonic() < calm:
                place.workers.kill(chance.choice(at_work))
                outcome.kills += 1
            # As a worker's parent does; those that start while storage is away wait for it.
            place.workers.start(plan.workers - len(place.workers.living))

    def restart(over: threading.Event) -> None:
        began = time.monotonic()
        for moment in plan.restarts:
            if over.wait(max(0, began + moment - time.monotonic())):
                return
            place.server.down(chance.choice((signal.SIGTERM, signal.SIGKILL)))
            over.wait(plan.restart_lasts)
            place.server.up()

    def storage(over: threading.Event) -> None:
        if not over.wait(plan.storage_away[0]):
            place.storage.down()
            over.wait(plan.storage_away[1] - plan.storage_away[0])
            place.storage.up()

    def cut(over: threading.Event) -> None:
        while not over.wait(plan.cut_every):
            with suppress(redis.RedisError):
                place.server.cut_connections(chance)
                outcome.cuts += 1

    with _beside(kill), _beside(restart), _beside(storage), _beside(cut):
        yield
