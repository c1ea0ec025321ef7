"""Workers that are told to stop, and one whose model hangs: real processes and signals."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from darkroom.tasks import JobHandle, State
from darkroom.worker.__main__ import EXIT_TEMPORARY
from darkroom.worker.process.hang import EXIT_HUNG
from darkroom.worker.process.supervisor import PERMANENT

from .processes import PATIENCE, Process
from .studio import Studio

# A worker whose model does not come back from its next image once a file is there.
HANGING = """
import os, sys, time
from darkroom.worker.images.generate import Generator
model, file = sys.argv[1:]
inner = Generator.generate
def generate(self, *args, **kwargs):
    if os.path.exists(file):
        self.engine.call(time.sleep, 600)
    return inner(self, *args, **kwargs)
Generator.generate = generate
sys.argv[1:] = [model]
from darkroom.worker.__main__ import main
sys.exit(main())
"""


# A worker whose device fails in its next image once a file is there.
BREAKING = HANGING.replace(
    "self.engine.call(time.sleep, 600)",
    """
        from darkroom.worker.failures import failures_become_ours
        with failures_become_ours():
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
""",
)


class Two:
    """The shared worker, and a second one that runs `handle`, a job without end; the first one is free."""

    def __init__(self, studio: Studio, second: Process) -> None:
        self.studio, self.second = studio, second
        self.name = second.wait_for("worker.ready")["worker"]
        runs = {studio.started(handle): handle for handle in (studio.submit_long(), studio.submit_long())}
        self.handle: JobHandle = runs.pop(self.name)
        (other,) = runs.values()
        other.cancel()
        other.wait(30)

    def moved(self) -> list[dict[str, object]]:
        """What became of the job until the first worker has it: the data of its changes."""
        deadline = time.monotonic() + PATIENCE
        while self.handle.get().claims < 2:
            assert time.monotonic() < deadline
        self.handle.cancel()
        assert self.handle.wait(30).state is State.CANCELED
        return [event.data for event in self.handle.watch() if event.type in ("job.queued", "job.started")]


@contextmanager
def two(studio: tuple[Studio, Process], **environment: str) -> Iterator[Two]:
    with studio[0].worker(**environment) as second:
        yield Two(studio[0], second)


@pytest.mark.parametrize(("drain", "signals"), [("0", [signal.SIGTERM]), ("600", [signal.SIGTERM, signal.SIGINT])])
def test_a_worker_that_stops_hands_its_job_to_another_at_no_cost(
    studio: tuple[Studio, Process], drain: str, signals: list[signal.Signals]
) -> None:
    with two(studio, DARKROOM_DRAIN_SECONDS=drain) as pair:
        for number in signals:
            pair.second.send(number)
        assert pair.second.end() == 0
        first, start, again, restart = pair.moved()
    assert (first["reason"], again["reason"]) == ("submitted", "drained")
    assert (start["worker"] == pair.name, restart["worker"] == pair.name) == (True, False)
    assert (pair.handle.get().failures, pair.handle.get().attempts) == (0, [])


def test_a_job_near_its_end_finishes_where_it_is(studio: tuple[Studio, Process]) -> None:
    with studio[0].worker(DARKROOM_DRAIN_SECONDS="600") as second:
        name = second.wait_for("worker.ready")["worker"]
        handles = [studio[0].submit(num_inference_steps=100) for _ in range(2)]
        runs = {studio[0].started(handle): handle for handle in handles}
        second.send(signal.SIGTERM)
        assert second.end() == 0
        job = runs[name].get()
        assert (job.state, job.worker, job.claims) == (State.SUCCEEDED, name, 1)
        assert {handle.wait(60).state for handle in handles} == {State.SUCCEEDED}


def test_a_worker_whose_device_is_broken_hands_its_jobs_back_and_ends(
    studio: tuple[Studio, Process], tmp_path: Path
) -> None:
    file = tmp_path / "break"
    environment = {**studio[0].environment, "DARKROOM_RETRY_SECONDS": "0.1", "DARKROOM_CONCURRENCY": "2"}
    with Process(["-c", BREAKING, studio[0].model, str(file)], environment) as second:
        pair = Two(studio[0], second)
        file.touch()
        studio[1].send(signal.SIGSTOP)  # so that the broken one takes the next job
        hit = studio[0].submit()
        second.wait_for("job.failed", code="device_broken")
        studio[1].send(signal.SIGCONT)
        assert second.end() == EXIT_TEMPORARY
        assert second.of("worker.failed", code="device_broken")
        _, start, again, restart = pair.moved()
    assert (again["reason"], start["worker"] == pair.name, restart["worker"] == pair.name) == ("drained", True, False)
    assert pair.handle.get().failures == 0  # it was only near
    job = hit.wait(60)
    assert (job.state, job.failures, [attempt.error.code for attempt in job.attempts]) == (
        State.SUCCEEDED, 1, ["device_broken"],
    )  # fmt: skip


def test_a_model_call_that_hangs_ends_the_process_and_its_job_moves(
    studio: tuple[Studio, Process], tmp_path: Path
) -> None:
    file = tmp_path / "hang"
    environment = {**studio[0].environment, "DARKROOM_CALL_SECONDS": "1", "DARKROOM_CONCURRENCY": "2"}
    with Process(["-c", HANGING, studio[0].model, str(file)], environment) as second:
        pair = Two(studio[0], second)
        file.touch()
        studio[1].send(signal.SIGSTOP)  # so that the next job, which hangs, is the second one's
        hung = studio[0].submit()
        assert second.end() == EXIT_HUNG
        studio[1].send(signal.SIGCONT)
        assert second.of("worker.hung", exit_code=EXIT_HUNG)
        _, start, again, restart = pair.moved()
    assert again["reason"] == "lease_expired"
    assert (start["worker"] == pair.name, restart["worker"] == pair.name) == (True, False)
    for handle in (pair.handle, hung):
        (attempt,) = handle.wait(60).attempts
        assert (attempt.error.code, attempt.worker) == ("worker_lost", pair.name)


# A worker that does not get warm.
COLD = """
import sys, time
from darkroom.worker.process import service
service.warm = lambda generator: {hangs}
sys.argv[1:] = [{model!r}]
from darkroom.worker.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("hangs", ["generator.engine.call(time.sleep, 600)", "time.sleep(600)"])
def test_a_worker_that_hangs_while_it_warms_ends_itself_and_may_be_started_again(
    studio: tuple[Studio, Process], hangs: str
) -> None:
    room, _ = studio
    environment = {**room.environment, "DARKROOM_WARM_SECONDS": "1"}
    with Process(["-c", COLD.format(hangs=hangs, model=room.model)], environment) as worker:
        assert worker.end() == EXIT_HUNG
        assert worker.of("worker.hung_warming", exit_code=EXIT_HUNG) and not worker.of("worker.ready")
    assert EXIT_HUNG not in PERMANENT


def test_a_worker_that_gets_on_may_take_longer_to_get_warm_than_it_may_stand_still(
    studio: tuple[Studio, Process],
) -> None:
    room, _ = studio
    steps = "[generator.engine.call(time.sleep, 0.5) for _ in range(8)]"
    environment = {**room.environment, "DARKROOM_WARM_SECONDS": "3"}
    with Process(["-c", COLD.format(hangs=steps, model=room.model)], environment) as worker:
        worker.wait_for("worker.ready")
        assert worker.terminate() == 0
