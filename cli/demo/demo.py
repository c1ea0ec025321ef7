"""`darkroom demo`: a whole Darkroom on a bare machine, from a server to a sheet of pictures, and its end."""

import io
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from darkroom.cli.demo.demo_folder import DemoFolder
from darkroom.cli.demo.server import LocalServer
from darkroom.cli.demo.sheet import contact_sheet
from darkroom.cli.demo.stage import Child, Signals
from darkroom.cli.errors import EXIT_FAILED, Interrupted, WorkerFailed
from darkroom.cli.follow import events, follower
from darkroom.cli.jobs import as_document
from darkroom.cli.options import AsJson, set_environment
from darkroom.cli.reading import local_path
from darkroom.cli.screen import Screen
from darkroom.storage import open_store
from darkroom.tasks import Darkroom, Img2Img, Job, Request, TaskSettings, Txt2Img
from darkroom.tasks.marks import adopt
from darkroom.tasks.redis_io import BlockingIO

READY_SECONDS = 300.0  # on a slow machine; an idle one takes about 10
MODEL = "starter"
FIRST = "a large red star on a blue background"
SECOND = "a large yellow star on a purple background"
SHEET = (
    "a green circle on a yellow background",
    "a striped white heart on a red background",
    "a small orange moon at the top on a black background",
    "a pink ring next to a blue square on a white background",
    "a watercolour of a purple triangle on a cyan background",
    "pixel art of a yellow heart on a blue background",
    "a sketch of a green cross on an orange background",
    "a dotted cyan diamond on the left on a purple background",
    "a black star above a red circle on a pink background",
    "a large striped orange ring on a green background",
)


def demo(
    *,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR", help="Where pictures and manifests are kept.")
    ] = "darkroom-data",
    stay: Annotated[bool, typer.Option("--stay", help="Keep server and worker until Ctrl-C, to try commands.")] = False,
    as_json: AsJson = False,
) -> int:
    """See it work: a server, a worker on the CPU, a txt2img, an img2img of its result, and a sheet of ten more.

    The model comes with Darkroom and draws coloured shapes. A server and a store that are configured are used;
    otherwise there is a bundled server, and a folder. Everything that was started is stopped again.
    """
    screen, folder = Screen(as_json=as_json), DemoFolder(local_path(output, "--output").resolve())
    folder.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="darkroom-demo-") as logs, Signals() as signals, ExitStack() as started:
        show = _Show(folder, screen, signals, started, Path(logs))
        show.run()
        if stay:
            show.stay()
    return 0


class _Show:
    """The demo, act by act."""

    def __init__(self, folder: DemoFolder, screen: Screen, signals: Signals, started: ExitStack, logs: Path) -> None:
        self._folder, self._screen, self._signals = folder, screen, signals
        self._started, self._logs = started, logs
        self._environment: dict[str, str] = {}
        self._new: dict[str, str] = {}  # what of these was not set before: the rest may hold secrets, and is not shown

    def run(self) -> None:
        """Server, worker, two jobs to look at closely, ten at once."""
        self._start_server()
        self._start_worker()
        with Darkroom() as client:
            first = self._develop(client, Txt2Img(model=MODEL, prompt=FIRST, seed=1))
            source = first.images[0].key
            second = self._develop(client, Img2Img(model=MODEL, prompt=SECOND, image=source, seed=2))
            jobs = [first, second, *self._develop_many(client)]
            self._write_sheet(jobs)
        self._tell(jobs)

    def _start_server(self) -> None:
        url = os.environ.get("DARKROOM_REDIS_URL")
        shared = bool(url)
        if url:
            self._screen.say("server   the one that DARKROOM_REDIS_URL names")
        else:
            server = self._started.enter_context(LocalServer())
            url = server.url
            self._screen.say(f"server   started at {url}")
        self._environment = self._folder.environment(url, shared=shared)
        self._new = {name: value for name, value in self._environment.items() if os.environ.get(name) != value}
        set_environment(**{name.removeprefix("DARKROOM_").lower(): value for name, value in self._environment.items()})
        with Darkroom() as client:
            client.ping()
        with closing(BlockingIO(TaskSettings())) as redis:
            redis.run(adopt(open_store()))  # the keys are its own, and the last demo's folder may have been deleted
        self._signals.check()

    def _start_worker(self) -> None:
        command = [sys.executable, "-m", "darkroom.cli", "worker", "--model", MODEL, "--log-format", "text"]
        wishes = {"DARKROOM_DEVICE": "cpu", "DARKROOM_DTYPE": "float32", "DARKROOM_MEMORY": "full"}
        began = time.monotonic()
        worker = self._started.enter_context(Child(command, wishes, self._logs / "worker.log"))
        with self._waiting("worker   starts, loads and warms the model"), Darkroom() as client:
            while not client.models().workers.get(MODEL):
                if worker.ended is not None:
                    raise self._failed("the worker ended before it was ready", worker, worker.ended or EXIT_FAILED)
                if time.monotonic() - began > READY_SECONDS:
                    raise self._failed(f"the worker was not ready within {READY_SECONDS:.0f} s", worker, EXIT_FAILED)
                self._signals.pause(0.1)
        self._screen.say(f"worker   is up on the CPU with the model {MODEL}, after {time.monotonic() - began:.1f} s")

    def _develop(self, client: Darkroom, request: Request) -> Job:
        handle = client.submit(request)
        self._screen.say(f"{request.kind:8} {request.title!r}: job {handle.id}, seed {handle.seeds[0]}")
        console = self._screen.err if self._screen.as_json else self._screen.out
        with (
            closing(BlockingIO(TaskSettings())) as redis,
            follower(console, 1, request.kind, lambda line: self._screen.say(f"         {line}")) as shown,
        ):
            for event in events(redis, handle.id, timeout=READY_SECONDS, check=self._signals.check):
                self._signals.check()
                shown.tell(event)
        return handle.get().raise_for_state()

    def _develop_many(self, client: Darkroom) -> list[Job]:
        """Submitted in one go, so that the worker has them all to choose from."""
        began = time.monotonic()
        requests = [Txt2Img(model=MODEL, prompt=prompt, seed=seed) for seed, prompt in enumerate(SHEET)]
        ids = [outcome.job.id for outcome in client.submit_many(requests) if outcome.job]
        self._screen.say(f"sheet    {len(ids)} jobs submitted at once")
        columns = (TextColumn("sheet   "), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console = self._screen.err
        with (
            closing(BlockingIO(TaskSettings())) as redis,
            Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        ):
            for job_id in progress.track(ids):
                for _ in events(redis, job_id, timeout=READY_SECONDS, steps=False, check=self._signals.check):
                    self._signals.check()
        self._screen.say(f"sheet    {len(ids)} pictures after {time.monotonic() - began:.1f} s")
        return [client.get(job_id).raise_for_state() for job_id in ids]

    def _write_sheet(self, jobs: list[Job]) -> None:
        from PIL import Image

        pictures = [(Image.open(io.BytesIO(job.images[0].read())), job.request.title) for job in jobs]
        contact_sheet(pictures).save(self._folder.sheet)

    def _tell(self, jobs: list[Job]) -> None:
        images = {job.id: [self._place(image.key) for image in job.images] for job in jobs}
        manifests = {job.id: self._place(job.result.manifest) for job in jobs if job.result}
        if self._screen.as_json:
            found: dict[str, Any] = {"jobs": [as_document(job) for job in jobs], "images": images}
            found |= {"manifests": manifests, "sheet": str(self._folder.sheet), "environment": self._new}
            self._screen.line(found)
            return
        for job in jobs[:2]:
            self._screen.say(f"picture  {images[job.id][0]}", style="green")
            self._screen.say(f"manifest {manifests[job.id]}")
        self._screen.say(f"picture  {_short(self._folder.sheet)} shows all of them", style="green")
        self._screen.say("\nTo try next:")
        self._screen.say(f"  darkroom replay {manifests[jobs[0].id]}")
        self._screen.say("  darkroom demo --stay        keeps server and worker, for commands from a second terminal")
        self._screen.say("  darkroom --help")

    def stay(self) -> None:
        """Until Ctrl-C, which is how this is meant to end."""
        kept = " and ".join(name for name in self._environment if name not in self._new)
        self._screen.say(
            "\nServer and worker stay until Ctrl-C. In a second terminal" + (f", with {kept} as here:" if kept else ":")
        )
        for name, value in self._new.items():
            self._screen.say(f"  export {name}='{value}'")
        self._screen.say('  darkroom submit "a dotted white moon on a black background" --wait --save moon.png')
        try:
            while True:
                self._signals.pause(1.0)
        except Interrupted:
            self._screen.say("stopping")

    def _place(self, key: str) -> str:
        own = self._environment["DARKROOM_STORAGE_URL"] == self._folder.objects.as_uri()
        return _short(self._folder.objects / key) if own else key

    @contextmanager
    def _waiting(self, words: str) -> Iterator[None]:
        """Shows that something goes on where somebody looks."""
        console = self._screen.err
        columns = (TextColumn(words), SpinnerColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            progress.add_task("", total=None)
            yield

    def _failed(self, message: str, child: Child, code: int) -> WorkerFailed:
        """The end of the log goes before the error. Raises Interrupted where a signal is the cause."""
        self._signals.check()
        for line in child.log_end():
            self._screen.note(f"  | {line}")
        own = code if 0 < code < 128 else EXIT_FAILED
        return WorkerFailed(message, own, hint="the lines above are the end of its log; `darkroom doctor` looks closer")


def _short(path: Path) -> str:
    """From here, where that is shorter to read."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
