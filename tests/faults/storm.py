"""Everything goes wrong at once, as a seed says, while jobs come in: what became of them, and how long it took."""

import base64
import io
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import redis
from PIL import Image

from darkroom.tasks import Darkroom, Event, QueueUnavailable
from tests.unit.worker.training.files import zipped

from .adapters import FEW_STEPS, LORAS
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
    wrong: list[str] = field(default_factory=list)


def run(plan: Plan, place: Place) -> Outcome:
    """The storm, the calm after it, and the reckoning."""
    chance, outcome, began = random.Random(plan.seed), Outcome(), time.monotonic()
    place.ready(plan.workers)
    most_threads = max(place.workers.threads()) + JOBS + IMAGES
    with (
        _producer(plan, place) as ids,
        _reader(place) as seen,
        _weather(plan, place, chance, outcome, lambda: len(_ended(seen))),
        suppress(AssertionError),  # the reckoning tells what has not ended
    ):
        until(lambda: set(ids) <= _ended(seen), "all jobs have ended", plan.longest)
    outcome.seconds = time.monotonic() - began
    place.ready(plan.workers)
    if max(threads := _threads_at_work(place, plan.workers)) > most_threads:
        outcome.wrong.append(f"threads were leaked: {threads}, and {most_threads} are needed")
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
    chance, latents, dataset = random.Random(plan.seed), _latents(place), place.client.upload(_dataset())
    ids = [str(UUID(int=chance.getrandbits(128), version=4)) for _ in range(plan.jobs)]

    def submit(over: threading.Event) -> None:
        with Darkroom(place.settings) as client:
            for number, job_id in enumerate(ids):
                request = _request(number, place.model, latents, dataset)
                while not over.wait(plan.submitting / plan.jobs):
                    with suppress(QueueUnavailable):
                        client.submit(request, job_id=job_id)
                        break

    with _beside(submit):
        yield ids


def _latents(place: Place) -> str:
    """The key of a finished image's, made before the storm."""
    job = place.client.submit({"model": place.model, "prompt": "a fox", "output": ["latents"]}).wait(120)
    return job.raise_for_state().files[0].key


def _dataset() -> bytes:
    """Of four pictures, with captions."""
    files = {}
    for number, colour in enumerate(("red", "green", "blue", "white")):
        file = io.BytesIO()
        Image.new("RGB", (64, 48 + 16 * number), colour).save(file, "PNG")
        files |= {f"{number}.png": file.getvalue(), f"{number}.txt": f"a {colour} fox".encode()}
    return zipped(files).getvalue()


def _request(number: int, model: str, latents: str, dataset: str) -> dict[str, Any]:
    """The kinds and what they may make, in turn; `latents` and `dataset`: keys of some of the model's, of pictures."""
    lane, steps = ("interactive", "bulk")[number % 2], 4 + number % 9
    common = {"model": model, "lane": lane}
    wish = {"prompt": "a fox", "seed": number, "num_inference_steps": steps, **common}
    white = _data_url(Image.new("L", (64, 48), 255))
    turns: tuple[dict[str, Any], ...] = (
        wish,
        {**wish, "kind": "img2img", "image": _data_url(Image.new("RGB", (64, 48), "red")), "strength": 0.7},
        {**wish, "kind": "inpaint", "image": _data_url(Image.new("RGB", (64, 48), "red")), "mask": white},
        {**wish, "output": ["image", "latents"], "num_images": 2},
        {**wish, "hires": {"scale": 1.5}, "width": 64, "height": 64},
        {**wish, "kind": "inpaint", "image": white, "extend": {"right": 16}},
        {**wish, "kind": "interpolate", "prompt_to": "the sea", "frames": 3},
        {**common, "kind": "encode", "image": white},
        {**common, "kind": "embed", "prompt": "a fox"},
        {**common, "kind": "decode", "image": latents},
        {**wish, "prompt": "a very red fox, " * 30},
        {**wish, "loras": [LORAS[number % len(LORAS)]], "num_images": 2},
        {**wish, "loras": [f"{name}:0.4" for name in (LORAS[number % 3], LORAS[3])], "hires": {"scale": 1.5}},
        {**wish, "model": f"{model}{FEW_STEPS}", "loras": [LORAS[1 + number % 3]]},
        {
            "kind": "finetune",
            "model": model,
            "dataset": dataset,
            "name": f"trained-{number}",
            "seed": number,
            "num_train_steps": 12,
            "checkpoint_every": 2,
            "rank": 2,
            "resolution": 64,
        },
    )
    return turns[number % len(turns)]


def _data_url(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


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
