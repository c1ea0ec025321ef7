"""Worker processes that are up within a second: forks of one process that has imported everything already.

A worker that is killed every few seconds must not spend them on importing torch. What a fork runs is the worker's own
program. Each line of standard input, `NAME LOG`, starts one; what becomes of them is told on standard output.
"""

import os
import select
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from darkroom.worker import __main__ as program

LOOK_SECONDS = 0.05

#: What a worker imports only when it needs it.
LATE = (
    "celery.app.amqp",
    "celery.concurrency.thread",
    "celery.fixups",
    "celery.worker.consumer",
    "celery.worker.worker",
    "darkroom.storage.s3",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_img2img",
)


def main() -> None:
    """Until standard input ends; the workers that live then are killed."""
    for module in LATE:
        import_module(module)
    living: set[int] = set()
    _say("warm")
    while True:
        while living and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            living.remove(ended[0])
            _say("ended", ended[0], os.waitstatus_to_exitcode(ended[1]))
        if select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:
            asked = os.read(sys.stdin.fileno(), 65_536)  # whole lines; a buffered reader would hide some from select
            if not asked:
                break
            living |= {_start(*line.split()) for line in asked.decode().splitlines()}
    for pid in living:
        os.kill(pid, signal.SIGKILL)


def _start(model: str, log: str) -> int:
    pid = os.fork()
    if pid == 0:
        _serve(model, Path(log))
    _say("started", pid, log)
    return pid


def _serve(model: str, log: Path) -> NoReturn:
    try:
        os.setsid()
        with log.open("ab") as file:
            os.dup2(file.fileno(), sys.stderr.fileno())
        os.dup2(os.open(os.devnull, os.O_RDWR), sys.stdin.fileno())
        sys.argv = ["darkroom.worker", model]
        program.main()
    except SystemExit as end:
        os._exit(int(end.code or 0))
    finally:
        os._exit(1)


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
