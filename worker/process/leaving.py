"""The end of a process."""

import os
import sys
from contextlib import suppress
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """Ends the process at once; whatever must not be left behind has been closed.

    Python would take every module and object apart first, while somebody who pressed Ctrl-C waits: nearly two seconds
    of a core where torch and diffusers are loaded.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads on, or it is closed
            stream.flush()
    os._exit(code)
