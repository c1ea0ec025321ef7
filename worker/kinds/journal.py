"""What is kept, told and made of a long piece while it is in the making."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from darkroom.tasks.wishes import Wish
from darkroom.worker.kinds.products import ProducedFile


class Journal(Protocol):
    """What is kept of a long piece while it is in the making, so that another worker can go on with it."""

    def of(self, role: str, extension: str) -> "Journal":
        """That of another file of the piece, which stays when the job has succeeded."""

    def kept(self) -> bytes | None:
        """What was kept last, by an earlier attempt at the job maybe."""

    def keep(self, data: bytes) -> None:
        """Stored, then recorded in place of what was kept before. Raises what ends the job."""

    def step(self, step: int, of: int, said: Mapping[str, float], save: Callable[[], bytes] | None) -> None:
        """Tells of a step. Where the attempt ends here what `save` gives is kept first; then that is raised.

        `save` None: of a dry run nothing is kept.
        """

    def wishes(self) -> Sequence[Wish]:
        """What the job's owner wishes of it by now. Asked after each step; those that are met come no more."""

    def grant(self, one: Wish, file: ProducedFile | None = None) -> None:
        """The wish is met: by the file, which is stored and recorded in one, or by what was made for it before.

        Raises what ends the job.
        """

    def sample(
        self, step: int, of: int, first: int | None, lora: Callable[..., bytes], save: Callable[[], bytes]
    ) -> None:
        """Pictures of a training's `sample_prompts`, numbered from `first`, or after all others (None).

        Those of these numbers that are recorded are not made again. `lora` gives the file as it is after so many steps,
        with the metadata that are named. `save` as for `step`.
        """


class Unkept:
    """A journal of what goes on to its end, or is begun anew."""

    def of(self, *_: object) -> "Unkept":
        """The same."""
        return self

    def kept(self) -> bytes | None:
        """Nothing."""
        return None

    def keep(self, _data: bytes) -> None:
        """Nothing is done."""

    def step(self, *_: object) -> None:
        """Told to nobody."""

    def sample(self, *_: object) -> None:
        """Made for nobody."""

    def wishes(self) -> Sequence[Wish]:
        """None: nobody can tell of them."""
        return ()

    def grant(self, *_: object) -> None:
        """Nothing is done."""
