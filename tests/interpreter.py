"""As a program: an interpreter that has imported everything already, by having the nursery run what it is given.

Arguments: the nursery's socket, what `sys.executable` is there, and an interpreter's own. It hands signals on to the
fork, and ends as that does; where it is killed, the nursery kills the fork. It imports little, to start at once.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Sequence

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def ask(channel: socket.socket, executable: str, arguments: Sequence[str], streams: Sequence[int], **more: str) -> None:
    """Asks the nursery for a fork that runs `-m MODULE ...` or `-c PROGRAM ...`, here and with this environment."""
    environment = {**os.environ, **more}
    asked = {
        "executable": executable,
        "arguments": [*arguments],
        "environment": environment,
        "folder": os.getcwd(),  # noqa: PTH109
    }
    socket.send_fds(channel, [json.dumps(asked).encode(), b"\n"], streams)


def main() -> None:
    address, executable, *arguments = sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until there is somebody to forward them to
    channel = socket.socket(socket.AF_UNIX)
    channel.connect(address)
    ask(channel, executable, [one for one in arguments if one not in {"-u", "-B"}], (0, 1, 2))
    for line in channel.makefile():
        what, pid, *code = line.split()
        if what == "ended":
            end(int(code[0]))
        for number in FORWARDED:
            signal.signal(number, lambda number, _frame, pid=int(pid): os.kill(pid, number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    sys.exit("the nursery is dead")


def end(code: int) -> None:
    """As a process with this exit code, or by the signal where it is negative."""
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
