"""One worker process: `python -m darkroom.worker MODEL ...`, started by `darkroom worker`. Settings: environment.

Exit codes are those of the command (docs/cli.md); 75 for what may pass by itself.
"""

import os
import signal
import sys
import threading

import structlog

from darkroom.storage import StorageError, StorageSettings
from darkroom.tasks.errors import DarkroomError
from darkroom.tasks.misspelt import misspelt
from darkroom.tasks.settings import TaskSettings
from darkroom.worker.process.leaving import leave
from darkroom.worker.process.logs import configure_logs
from darkroom.worker.process.service import Service
from darkroom.worker.settings import WorkerSettings

EXIT_TEMPORARY = 75  # sysexits.h, EX_TEMPFAIL
EXIT_STORAGE = 5


def main() -> int:
    """Runs the process; returns its exit code."""
    configure_logs("auto", "info")
    try:
        settings = WorkerSettings()
        configure_logs(settings.log_format, settings.log_level)
        for variable, near in misspelt(TaskSettings, StorageSettings, WorkerSettings):
            structlog.get_logger().warning("settings.misspelt", variable=variable, near=near)
        if settings.lifeline:
            threading.Thread(target=_follow_parent, name="darkroom-lifeline", daemon=True).start()
        Service(sys.argv[1:], TaskSettings(), settings).run()
    except (DarkroomError, StorageError) as error:
        structlog.get_logger().error("worker.failed", code=error.code, error=error.message, hint=error.hint)
        own = getattr(error, "exit_code", EXIT_STORAGE)
        return EXIT_TEMPORARY if error.retryable else own
    except KeyboardInterrupt:
        return 130
    return 0


def _follow_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    leave(main())
