"""Following a job: its events up to its end, and what they look like to people."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from textwrap import shorten
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from darkroom.cli.screen import duration
from darkroom.tasks import Event, QueueUnavailable, WaitTimeout, streams
from darkroom.tasks.following import SharedReader
from darkroom.tasks.redis_io import BlockingIO
from darkroom.tasks.requests import KINDS
from darkroom.tasks.streams import Batch

PATIENCE_SECONDS = 30.0
RETRY_SECONDS = 0.2
CHECK_SECONDS = 1.0
LINE_SECONDS = 1.0  # at the least between two lines of progress where there is no terminal
SAMPLE_LETTERS = 60  # of a sample's prompt in a line


def events(
    io: BlockingIO,
    job_id: str,
    *,
    after: str | None = None,
    timeout: float | None = None,
    previews: bool = False,
    steps: bool = True,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Event]:
    """The job's events to its end, of its `steps` where wanted. `check` is called about once a second and may raise.

    A server that goes away is waited for `PATIENCE_SECONDS`: ids let a reader go on where it was.
    Raises JobNotFound, QueueError, and WaitTimeout after `timeout` seconds.
    """
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    away_since = math.inf
    begin = streams.watch if steps else streams.first
    with SharedReader(io).reading(streams.of_job(job_id, watched=steps)) as reading:
        batch = reading.begin(begin(job_id, after))
        while True:
            yield from batch.events
            if batch.ended:
                return
            check()
            left = deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeout(f"job {job_id} has not ended within {timeout:g} s", hint="it goes on")
            try:
                batch = reading.next(min(left, CHECK_SECONDS))  # after an error it asks the server at once
                batch = io.run(streams.shown(job_id, batch)) if previews else batch
                away_since = math.inf
            except QueueUnavailable:
                away_since = min(away_since, time.monotonic())
                if time.monotonic() - away_since > PATIENCE_SECONDS:
                    raise
                batch = Batch([], batch.cursor)
                time.sleep(RETRY_SECONDS)


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """A Ctrl-C that is not lost; gives the `check` for `events`.

    Python drops the exception of a signal that comes while a finalizer or a callback of the interpreter runs.
    """
    seen = threading.Event()

    def interrupt(_number: int, _frame: object) -> None:
        seen.set()
        raise KeyboardInterrupt

    def check() -> None:
        if seen.is_set():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


def goes_on(job_id: str) -> str:
    """For whoever stops looking."""
    return f"the job goes on: darkroom watch {job_id}, or darkroom cancel {job_id}"


class Teller:
    """The events of one job as lines, where each may say less for what was said before.

    A seed that several pictures share is told once; a kind that draws nothing by lot makes one thing, without a number.
    """

    def __init__(self) -> None:
        self._seed: int | None = None
        self._drawn = True

    def line(self, event: Event) -> str:
        """What happened, without what only programs need."""
        if event.type == "job.queued" and (kind := KINDS.get(event.data.get("kind", ""))):
            self._drawn = "seed" in kind.model_fields and not kind.own_command
        if event.type != "job.image":
            return told(event, numbered=self._drawn)
        before, self._seed = self._seed, event.data.get("seed")
        return told(event, numbered=self._drawn, seeded=self._drawn and self._seed != before)


def told(event: Event, *, numbered: bool = True, seeded: bool = True) -> str:
    """An event as a line: what happened, without what only programs need."""
    data, kind = event.data, event.type.removeprefix("job.")
    match kind:
        case "progress":
            if words := _before_the_first_step(data):
                return words
            image = f"image {data.get('image')}: " if numbered and not data.keys() & {"loss", "sample"} else ""
            return f"{image}step {data.get('step')} of {data.get('of')}{_training(data)}"
        case "image":
            image = f"image {data.get('index')}" if numbered else "image"
            if data.get("step") is not None:
                image = sample_in_words(data["step"], data.get("prompt"))
            seed = f", seed {data.get('seed')}" if seeded else ""
            return f"{image} is stored: {data.get('key')}, {data.get('width')}x{data.get('height')}{seed}"
        case "file":
            of = f" of image {data['index']}" if numbered and data.get("index") is not None else ""
            return f"{data.get('role')}{of}: stored as {data.get('key')}, {data.get('bytes')} bytes"
        case "queued":
            return _queued(data)
        case "started":
            return f"started on {data['worker']}" if "worker" in data else "started"
        case "waiting":
            return f"waits for the store: {data.get('code', 'it cannot be used')}"
        case "failed":
            error = data.get("error") or {}
            hint = f" ({error['hint']})" if error.get("hint") else ""
            return f"failed: {error.get('message', 'for no given reason')}{hint}"
        case _:
            return kind


def _before_the_first_step(data: dict[str, Any]) -> str:
    """Of a training whose class pictures are in the making."""
    return f"class pictures: {data['class_images']} of {data.get('class_images_of')}" if "class_images" in data else ""


def sample_in_words(step: int, prompt: object) -> str:
    """A picture that was made while a training was under way; a long prompt by its beginning."""
    return f"sample of step {step}, {shorten(str(prompt), SAMPLE_LETTERS, placeholder='...')!r}"


def _training(data: dict[str, Any]) -> str:
    """What the progress of one tells besides."""
    return f"{_loss(data)}{_sample(data)}{_pace(data)}{_left(data)}"


def _loss(data: dict[str, Any]) -> str:
    """Of a training, smoothed."""
    found = data.get("loss_smoothed")
    return f", loss {found:.4f}" if isinstance(found, float) else ""


def _pace(data: dict[str, Any]) -> str:
    """How fast a training is."""
    found = data.get("steps_per_second")
    return f", {found:.3g} steps/s" if isinstance(found, float) else ""


def _left(data: dict[str, Any]) -> str:
    """When it is done."""
    found = data.get("seconds_left")
    return f", {duration(found)} left" if isinstance(found, float) and found > 0 else ""


def _sample(data: dict[str, Any]) -> str:
    """Which one a training is making."""
    return f", sample {data['sample']} of {data.get('samples')}" if "sample" in data else ""


def _queued(data: dict[str, Any]) -> str:
    match data.get("reason"):
        case "lease_expired" | "worker_died":
            return "queued again: its worker was lost"
        case "drained":
            return "queued again: its worker stops"
        case "busy":
            return "queued again: its worker has another training"
        case "storage_away":
            return "queued again: its worker's store cannot be used"
        case "retry":
            return f"queued again, tried in {data.get('delay_s', 0):.0f} s: {data.get('code', 'it failed')}"
        case _:
            return "queued"


class Follower(Protocol):
    """Shows events while they come."""

    def tell(self, event: Event) -> None:
        """One more."""

    def __enter__(self) -> Self:
        """Begins to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the screen tidy."""


class Lines:
    """Plain lines, for logs and pipes; progress about once a second, and every picture's last step."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._next, self._teller = say, 0.0, Teller()

    def tell(self, event: Event) -> None:
        if event.type == "job.progress":
            now = time.monotonic()
            if now < self._next and event.data.get("step") != event.data.get("of"):
                return
            self._next = now + LINE_SECONDS
        self._say(self._teller.line(event))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


#: What an event tells of the job as a whole, where that is not its own name.
_STATES = {
    **dict.fromkeys(("job.started", "job.progress", "job.image", "job.file"), "running"),
    "job.waiting": "waiting for the store",
}


BLOCKS = "▁▂▃▄▅▆▇█"
CURVE = 24  # characters


def sparkline(values: Sequence[float], width: int = CURVE) -> str:
    """A small curve of the values from first to last, each character the mean of as many; the lowest block is 0."""
    wide = min(width, len(values))
    parts = [values[len(values) * at // wide : len(values) * (at + 1) // wide] for at in range(wide)]
    means = [math.fsum(part) / len(part) for part in parts]
    most = max(means, default=0.0) or 1.0
    return "".join(BLOCKS[min(len(BLOCKS) - 1, int(len(BLOCKS) * max(0.0, mean) / most))] for mean in means)


class Bar:
    """A progress bar over all steps of all pictures, for terminals; of a training with the curve of its loss."""

    def __init__(self, console: Console, images: int, label: str) -> None:
        self._images = images
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[step]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            redirect_stdout=False,  # results go there
        )
        self._task: TaskID = self._progress.add_task(f"{label}: queued", total=None, step="")
        self._label = label
        self._losses: list[float] = []

    def tell(self, event: Event) -> None:
        data = event.data
        if event.type == "job.progress":
            self._step(data)
        state = _STATES.get(event.type) or event.type.removeprefix("job.")
        self._progress.update(self._task, description=f"{self._label}: {state}")
        if event.type == "job.succeeded":
            self._progress.update(self._task, total=1, completed=1)
        elif event.terminal:
            self._progress.stop_task(self._task)

    def _step(self, data: dict[str, Any]) -> None:
        image, step, of = (int(data.get(name, 0)) for name in ("image", "step", "of"))
        words = f"step {step}/{of}" + (f" of image {image + 1}/{self._images}" if self._images > 1 else "")
        words = _before_the_first_step(data) or words + _loss(data) + _sample(data) + _left(data)
        if isinstance(loss := data.get("loss_smoothed"), float):
            self._losses.append(loss)
            words += f" {sparkline(self._losses)}"
        self._progress.update(self._task, total=self._images * of, completed=image * of + step, step=words)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def follower(console: Console, images: int, label: str, say: Callable[[str], None]) -> Follower:
    """A bar where somebody looks, else lines by `say`."""
    return Bar(console, images, label) if console.is_terminal else Lines(say)
