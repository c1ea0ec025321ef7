"""What fault tests share: servers that may be harmed, and longer runs than `make test` has time for."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from darkroom.tasks import State
from darkroom.tasks.catalogue import ModelEntry
from tests.conftest import TinyModels
from tests.integration.conftest import our_clock, raw, redis_server, task_settings

from .place import Place, Storage, open_place

__all__ = ["our_clock", "raw", "redis_server", "task_settings"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--storms", type=int, default=0, help="how many whole storms, each of its own seed")


@pytest.fixture(scope="session")
def storage() -> Iterator[Storage]:
    """One S3 server for all; a test that stops it starts it again."""
    storage = Storage()
    yield storage
    storage.down()


@pytest.fixture(scope="session")
def entry(tiny_models: TinyModels) -> ModelEntry:
    return tiny_models("sdxl")


@pytest.fixture(scope="session")
def shared(entry: ModelEntry, storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place with one worker for all tests that leave it as it was."""
    with open_place(entry, storage, tmp_path_factory.mktemp("shared")) as place:
        place.ready(1)
        yield place
        assert place.workers.stop() == [0]


@pytest.fixture
def place(shared: Place) -> Iterator[Place]:
    """The worker is the same afterwards, and works."""
    pids = shared.workers.living
    yield shared
    assert shared.submit().wait(60).state is State.SUCCEEDED
    assert shared.workers.living == pids


settings.register_profile("short", max_examples=15, stateful_step_count=50, deadline=None, print_blob=True)
settings.register_profile("long", max_examples=1000, stateful_step_count=60, deadline=None, print_blob=True)
