"""The command `darkroom`: runs what was asked for, and turns whatever is raised into words and an exit code."""

import sys
from typing import NoReturn

from darkroom.worker.process.leaving import leave


def main() -> NoReturn:
    """The entry point."""
    try:
        # Imports take a third of a second, and Ctrl-C within it is no reason for a traceback either.
        from darkroom.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130  # as shells say it
    leave(code)
