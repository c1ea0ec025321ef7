"""The starter model as it comes with Darkroom, and a judge of its pictures."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any

import pytest

from ops.starter.drawing import Picture
from ops.starter.judge import faults, judge
from ops.starter.painting import Studio
from ops.starter.prompts import Asked

Paint = Callable[..., list[Picture]]


@pytest.fixture(scope="package")
def studio() -> Iterator[Studio]:
    opened = Studio(threads=1)  # test processes beside it have the other cores
    yield opened
    opened.close()


@pytest.fixture(scope="package")
def paint(studio: Studio) -> Paint:
    """Pictures of many prompts at once, in their order; at once they cost half. `each` has fields of single ones."""

    def many(asked: Iterable[Asked], each: Iterable[dict[str, Any]] = repeat({}), **fields: Any) -> list[Picture]:
        with ThreadPoolExecutor(8) as threads:
            return list(threads.map(lambda one, own: studio(one.prompt, one.seed, **fields, **own), asked, each))

    return many


def right(asked: list[Asked], pictures: list[Picture], *attributes: str) -> int:
    """How many pictures have none of these faults."""
    found = [faults(one.scene, judge(picture)) for one, picture in zip(asked, pictures, strict=True)]
    return sum(not wrong & {"count", *attributes} for wrong in found)
