"""`darkroom demo`: a whole Darkroom on a bare machine, from a server to two pictures, and everything stopped again."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from darkroom.cli.demo_folder import LOCAL_NAME, DemoFolder
from darkroom.cli.errors import EXIT_FAILED, Interrupted, WorkerFailed
from darkroom.cli.follow import events, follower
from darkroom.cli.jobs import as_document
from darkroom.cli.options import AsJson, set_environment
from darkroom.cli.screen import Screen
from darkroom.cli.server import LocalServer
from darkroom.cli.stage import Child, Signals
from darkroom.tasks import Darkroom, Img2Img, Job, Request, TaskSettings, Txt2Img
from darkroom.tasks.redis_io import BlockingIO

READY_SECONDS = 300.0  # on a slow machine; an idle one takes about 10
PROMPT = "a lighthouse at dusk"


def demo(
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where pictures, manifests and the model are kept.")
    ] = Path("darkroom-data"),
    stay: Annotated[bool, typer.Option("--stay", help="Keep server and worker until Ctrl-C, to try commands.")] = False,
    as_json: AsJson = False,
) -> int:
    """See it work: a server, a worker on the CPU, a txt2img and an img2img of its result. Stops what it started.

    The model is tiny and has random weights, so its pictures are noise. A server and a store that are configured are
    used; otherwise there is a bundled server, and a folder.
    """
    screen, folder = Screen(as_json=as_json), DemoFolder(output.expanduser().resolve())
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
        self._name = LOCAL_NAME

    def run(self) -> None:
        """Server, model, worker, two jobs."""
        self._start_server()
        self._make_model()
        self._start_worker()
        with Darkroom() as client:
            first = self._develop(client, Txt2Img(model=self._name, prompt=PROMPT, num_inference_steps=30))
            source = first.images[0].key
            again = Img2Img(model=self._name, prompt=f"{PROMPT}, in watercolour", image=source, num_inference_steps=30)
            second = self._develop(client, again)
        self._tell([first, second])

    def _start_server(self) -> None:
        url = os.environ.get("DARKROOM_REDIS_URL")
        if url:
            self._name = self._folder.shared_name
            self._screen.say("server   the one that DARKROOM_REDIS_URL names")
        else:
            server = self._started.enter_context(LocalServer())
            url = server.url
            self._screen.say(f"server   started at {url}")
        self._environment = self._folder.environment(url)
        set_environment(**{name.removeprefix("DARKROOM_").lower(): value for name, value in self._environment.items()})
        with Darkroom() as client:
            client.ping()
        self._signals.check()

    def _make_model(self) -> None:
        if not self._folder.catalogue.is_file():
            with self._waiting("model    is being made"), self._folder.new_model() as making:
                command = [sys.executable, "-m", "darkroom.cli.demo_model", str(making)]
                with Child(command, {}, self._logs / "model.log") as maker:
                    code = maker.wait(self._signals)
                if code != 0:
                    raise self._failed("the model could not be made", maker, EXIT_FAILED)
        self._folder.name_model(self._name)
        self._screen.say(
            "model    tiny, in the structure of SDXL, with random weights: the pictures are noise\n"
            "         and show that the machinery works, not what a model can do"
        )

    def _start_worker(self) -> None:
        command = [sys.executable, "-m", "darkroom.cli", "worker", "--model", self._name, "--log-format", "text"]
        wishes = {"DARKROOM_DEVICE": "cpu", "DARKROOM_DTYPE": "float32", "DARKROOM_MEMORY": "full"}
        began = time.monotonic()
        worker = self._started.enter_context(Child(command, wishes, self._logs / "worker.log"))
        with self._waiting("worker   starts, loads and warms the model"), Darkroom() as client:
            while not client.models().workers.get(self._name):
                if worker.ended is not None:
                    raise self._failed("the worker ended before it was ready", worker, worker.ended or EXIT_FAILED)
                if time.monotonic() - began > READY_SECONDS:
                    raise self._failed(f"the worker was not ready within {READY_SECONDS:.0f} s", worker, EXIT_FAILED)
                self._signals.pause(0.1)
        self._screen.say(f"worker   is up on the CPU, after {time.monotonic() - began:.1f} s")

    def _develop(self, client: Darkroom, request: Request) -> Job:
        handle = client.submit(request)
        self._screen.say(f"{request.kind:8} job {handle.id}, seed {handle.seeds[0]}")
        io = BlockingIO(TaskSettings())
        console = self._screen.err if self._screen.as_json else self._screen.out
        try:
            with follower(console, 1, request.kind, lambda line: self._screen.say(f"         {line}")) as shown:
                for event in events(io, handle.id, timeout=READY_SECONDS, check=self._signals.check):
                    self._signals.check()
                    shown.tell(event)
        finally:
            io.close()
        return handle.get().raise_for_state()

    def _tell(self, jobs: list[Job]) -> None:
        images = {job.id: [self._place(image.key) for image in job.images] for job in jobs}
        manifests = {job.id: self._place(job.result.manifest) for job in jobs if job.result}
        if self._screen.as_json:
            found: dict[str, Any] = {"jobs": [as_document(job) for job in jobs], "images": images}
            self._screen.line({**found, "manifests": manifests, "environment": self._environment})
            return
        for job in jobs:
            for place in images[job.id]:
                self._screen.say(f"picture  {place}", style="green")
            self._screen.say(f"manifest {manifests[job.id]}")
        self._screen.say("\nTo try next:")
        options = f"--catalogue {_short(self._folder.catalogue)} --models-dir {_short(self._folder.model)}"
        self._screen.say(f"  darkroom replay {manifests[jobs[0].id]} {options}")
        self._screen.say("  darkroom demo --stay        keeps server and worker, for commands from a second terminal")
        self._screen.say("  darkroom --help")

    def stay(self) -> None:
        """Until Ctrl-C, which is how this is meant to end."""
        self._screen.say("\nServer and worker stay until Ctrl-C. In a second terminal:")
        for name, value in self._environment.items():
            self._screen.say(f"  export {name}='{value}'")
        self._screen.say('  darkroom submit "a harbour in the fog" --wait --save harbour.png')
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
