"""Redis in trouble under a worker in mid-job: the job goes on, is recorded once, and the worker is found well after."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from darkroom.tasks import Darkroom, DarkroomError, JobHandle, QueueAuthFailed, QueueFull, QueueUnavailable, State

from .place import LEASE_SECONDS, Place
from .verdict import faults
from .workers import until

TOLD_SECONDS = 6.0  # until a producer hears that Redis is away


def in_the_making(place: Place) -> JobHandle:
    """A job of a few seconds that has taken its first step."""
    handle = place.submit(num_inference_steps=200, num_images=2)
    next(event for event in handle.watch() if event.type == "job.progress")
    return handle


def ended_well(place: Place, handle: JobHandle, claims: int = 1) -> None:
    job = handle.wait(120)
    assert (job.state, job.claims, job.failures) == (State.SUCCEEDED, claims, 0)
    assert faults(place, [job.id]) == []


def told_of(place: Place, error: type[DarkroomError]) -> None:
    """A producer hears of it soon."""
    with Darkroom(place.settings) as client:
        began = time.monotonic()
        with pytest.raises(error):
            client.submit({"prompt": "a cat", "model": place.model})
        assert time.monotonic() - began < TOLD_SECONDS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart(place: Place, number: signal.Signals) -> None:
    handle = in_the_making(place)
    place.server.down(number)
    told_of(place, QueueUnavailable)
    place.server.up()
    ended_well(place, handle)


def test_a_server_that_hangs_for_longer_than_a_lease(place: Place) -> None:
    handle = in_the_making(place)
    place.server.freeze()
    deadline = time.monotonic() + 2 * LEASE_SECONDS
    while time.monotonic() < deadline:
        told_of(place, QueueUnavailable)
    place.server.thaw()
    ended_well(place, handle)


def test_a_pause_as_for_a_failover(place: Place) -> None:
    handle = in_the_making(place)
    place.server.admin.client_pause(4000)
    told_of(place, QueueUnavailable)
    place.server.admin.ping()  # answered when the pause is over
    ended_well(place, handle)


def test_connections_that_are_cut_again_and_again(place: Place) -> None:
    handle = in_the_making(place)
    for _ in range(20):
        place.server.cut_connections()
        with Darkroom(place.settings) as client:
            client.ping()
    ended_well(place, handle)


def test_a_password_that_was_changed_and_is_put_right(place: Place) -> None:
    handle, waiting = in_the_making(place), place.submit()
    place.server.admin.config_set("requirepass", "rotated")
    place.server.cut_connections()
    told_of(place, QueueAuthFailed)
    place.server.admin.config_set("requirepass", "")
    ended_well(place, handle)
    ended_well(place, waiting)


def test_a_full_server_takes_nothing_new_and_loses_nothing(place: Place) -> None:
    handle, waiting = in_the_making(place), place.submit()
    place.server.admin.config_set("maxmemory", "1mb")
    told_of(place, QueueFull)
    place.server.cut_connections()
    ended_well(place, handle)
    ended_well(place, waiting)
    place.server.admin.config_set("maxmemory", "0")


def test_a_server_that_came_back_without_its_last_second(place: Place, tmp_path: Path) -> None:
    """It has forgotten that the worker took the job: the worker stops, and the job runs as if nothing had been."""
    (pid,) = place.workers.living
    os.kill(pid, signal.SIGSTOP)
    handle = place.submit(num_inference_steps=200, num_images=2)
    kept = shutil.copytree(place.server.folder, tmp_path / "kept")
    os.kill(pid, signal.SIGCONT)
    next(event for event in handle.watch() if event.type == "job.progress")
    place.server.down(signal.SIGKILL)
    shutil.rmtree(place.server.folder)
    shutil.copytree(kept, place.server.folder)
    place.server.up()
    ended_well(place, handle)
    until(lambda: place.workers.said(pid, "job.lease_lost"), "the worker hears of it")
