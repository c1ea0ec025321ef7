"""`darkroom health`: for containers. Quick: one connection, no library of models."""

import platform

from darkroom.cli.doctor.fleet import workers_up
from darkroom.cli.errors import WorkerNotUp
from darkroom.cli.options import AsJson
from darkroom.cli.screen import Screen
from darkroom.tasks import TaskSettings
from darkroom.tasks.redis_io import BlockingIO


def health(*, as_json: AsJson = False) -> None:
    """Exit 0 if a worker of this host serves and Redis answers: for a container's health check."""
    host = platform.node()
    io = BlockingIO(TaskSettings())
    try:
        workers = [worker for worker in io.run(workers_up()) if worker.host == host]
    finally:
        io.close()
    if not workers:
        raise WorkerNotUp(f"no worker of {host} is up")
    words = "; ".join(f"{worker.name} serves {worker.serves}" for worker in workers)
    document = {"healthy": True, "workers": [worker.as_dict() for worker in workers]}
    Screen(as_json=as_json).result(document, words)
