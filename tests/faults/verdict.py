"""What must be true of jobs that all should have succeeded, when the dust has settled."""

import hashlib
from collections import Counter
from itertools import pairwise

from darkroom.storage import StorageError
from darkroom.tasks import Event, Finetune, Job, State
from darkroom.tasks.objects import leftovers

from . import orders
from .place import Place

TERMINAL = {f"job.{state}" for state in State if state.final}


def faults(place: Place, ids: list[str], seen: list[Event] | None = None) -> list[str]:
    """Everything that is wrong, in words. `seen` is what a reader of the feed saw who was there all the time."""
    jobs = [place.client.get(job_id) for job_id in ids]
    wrong = [f"{job.id} {job.state}: {job.error}" for job in jobs if job.state is not State.SUCCEEDED]
    for job in jobs:
        wrong += _of_the_events(place, job)
        wrong += _of_the_objects(place, job)
    if seen is not None:
        wrong += _of_the_feed(place, ids, seen)
    return wrong + _left_behind(place) + _orphans(place)


def _of_the_events(place: Place, job: Job) -> list[str]:
    events = list(place.client.watch(job.id))
    ends = [event.type for event in events if event.type in TERMINAL]
    wrong = [] if ends == [f"job.{job.state}"] else [f"{job.id} is {job.state}, its events end with {ends}"]
    return wrong + _disorder(events, f"the events of {job.id}")


def _of_the_feed(place: Place, ids: list[str], seen: list[Event]) -> list[str]:
    ends = Counter(event.job_id for event in seen if event.type in TERMINAL)
    wrong = [f"the feed's reader saw {ends[job_id]} ends of {job_id}" for job_id in ids if ends[job_id] != 1]
    kept = [entry for entry, _ in place.server.admin.xrange(place.key("feed")) if _before(entry, seen[-1].id)]
    missed = [entry for entry in kept if entry not in {event.id for event in seen}]
    stands = {*kept}
    ran = orders.most_at_once([event for event in seen if event.id in stands], orders.LIMITED)
    wrong += [f"{ran} jobs of {orders.LIMITED} ran at a time"] if ran > orders.MAX_RUNNING else []
    return wrong + [f"the feed's reader missed {entry}" for entry in missed] + _disorder(seen, "the feed")


def _disorder(events: list[Event], where: str) -> list[str]:
    return [f"{where} are out of order at {b.id}" for a, b in pairwise(events) if not _before(a.id, b.id)]


def _before(one: str, other: str) -> bool:
    left, right = ([*map(int, entry.split("-"))] for entry in (one, other))
    return left < right


def _of_the_objects(place: Place, job: Job) -> list[str]:
    wrong = []
    try:
        for made in (*job.images, *job.files):
            digest = hashlib.sha256(place.storage.store.get(made.key)).hexdigest()
            wrong += [] if digest == made.sha256 else [f"{made.key} is not what was recorded"]
        if job.result and not place.storage.store.exists(job.result.manifest):
            wrong.append(f"{job.result.manifest} is not there")
    except StorageError as error:
        wrong.append(f"{job.id}: {error}")
    if isinstance(job.request, Finetune):
        return wrong + _of_the_training(job, job.request)
    made = (len(job.images), len(job.files))
    return wrong + ([] if made == _wanted(job) else [f"{job.id}, {job.kind}, has {made} images and files"])


def _of_the_training(job: Job, request: Finetune) -> list[str]:
    """What was wished for on the way comes on top: snapshots, and whole rounds of samples."""
    roles = {file.role for file in job.files if not file.role.startswith("snapshot_")}
    wanted = {"lora", "loss"} | ({"prior"} if request.class_prompts else set())  # and no checkpoint any more
    wrong = [] if roles == wanted else [f"{job.id}, a training, has the files {roles}"]
    prompts, planned, made = len(request.sample_prompts), request.sample_plan.count, {one.index for one in job.images}
    whole = made == set(range(len(made))) and len(made) >= planned and not (prompts and len(made) % prompts)
    return wrong + ([] if whole else [f"{job.id}, a training, has the samples {made}, and {planned} were planned"])


def _wanted(job: Job) -> tuple[int, int]:
    """How many images and files the job was to make."""
    pieces, output = job.request.pieces, getattr(job.request, "output", ["image"])
    if job.kind in ("encode", "embed"):
        return 0, pieces
    return pieces * ("image" in output), pieces * ("latents" in output)


def _left_behind(place: Place) -> list[str]:
    """Leases, places in queues, turns, messages."""
    admin = place.server.admin
    lanes = admin.smembers(place.key("lanes"))  # those of jobs with needs among them
    sets = ["leases", "delayed", "deadlines", "index:running", "index:queued", *(f"queued:{lane}" for lane in lanes)]
    left = {name: admin.zcard(place.key(name)) for name in sets}
    left |= place.knocks()
    waiting = [name for kind in ("wait", "turn", "waits") for name in admin.scan_iter(place.key(f"{kind}:*"))]
    return [f"{count} left in {name}" for name, count in left.items() if count] + [
        f"{name} is left" for name in waiting
    ]


def _orphans(place: Place) -> list[str]:
    return [
        f"no record names {key}" for job in place.client.jobs(limit=1000) for key in leftovers(job, place.storage.store)
    ]
