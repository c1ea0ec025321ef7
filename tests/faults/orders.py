"""What an operator orders while a storm lasts: pauses, weights, and jobs that go first. Nothing stays paused."""

import random
import threading
from collections.abc import Sequence
from contextlib import suppress

from darkroom.tasks import Darkroom, Event, QueueUnavailable

from .mix import TENANTS
from .place import Place

#: Of `LIMITED`, all the time.
MAX_RUNNING = 2
LIMITED = TENANTS[-1]


def begin(place: Place) -> None:
    """Sets what holds all the time."""
    place.client.set_limits(LIMITED, max_running=MAX_RUNNING)


def give(place: Place, chance: random.Random, ids: Sequence[str], every: float, over: threading.Event) -> int:
    """Gives an order each `every` seconds until `over`, and says how many."""
    given = 0
    with Darkroom(place.settings) as client:
        while not over.wait(every):
            with suppress(QueueUnavailable):
                _resume(client, place.model)  # also what a server forgot that it was told
                _give_one(client, chance, place.model, ids)
                given += 1
        while True:
            with suppress(QueueUnavailable):
                _resume(client, place.model)
                return given


def _resume(client: Darkroom, model: str) -> None:
    client.resume("model", model)
    for tenant in TENANTS:
        client.resume("tenant", tenant)


def _give_one(client: Darkroom, chance: random.Random, model: str, ids: Sequence[str]) -> None:
    match chance.randrange(4):
        case 0:
            client.pause("model", model)
        case 1:
            client.pause("tenant", chance.choice(TENANTS))
        case 2:
            client.set_limits(chance.choice(TENANTS[:-1]), weight=chance.choice((0.25, 1, 4)), user_max_running=2)
        case _:
            client.move_to_front(chance.choice(ids))


def most_at_once(events: Sequence[Event], tenant: str) -> int:
    """How many of a tenant's jobs ran at a time, by the feed."""
    running, most = set[str](), 0
    for event in events:
        if event.tenant == tenant and event.type == "job.started":
            running.add(event.job_id)
        elif event.terminal or event.type == "job.queued":
            running.discard(event.job_id)
        most = max(most, len(running))
    return most
