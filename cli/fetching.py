"""Bars for what is fetched and then verified, on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from darkroom.cli.screen import Screen


@contextmanager
def fetching(screen: Screen, name: str) -> Iterator[Callable[[int, int], None]]:
    """What is to hear the bytes that are done, and all: those fetched, then from 0 again those verified."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    quiet = not screen.err.is_terminal
    with Progress(
        *columns, TimeRemainingColumn(), console=screen.err, redirect_stdout=False, disable=quiet
    ) as progress:
        yield _Phases(progress, name)


class _Phases:
    """A bar each."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name, self._done = progress, name, 0
        self._tasks = [progress.add_task(f"{name}: fetch", total=None)]

    def __call__(self, done: int, total: int) -> None:
        if done < self._done:
            self._tasks.append(self._progress.add_task(f"{self._name}: verify", total=total))
        self._done = done
        self._progress.update(self._tasks[-1], completed=done, total=total)
