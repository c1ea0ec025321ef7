"""What fault tests share: servers that may be harmed, and longer runs than `make test` has time for."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from darkroom.tasks.catalogue import ModelEntry
from tests.conftest import TinyModels
from tests.integration.conftest import raw, redis_server, task_settings

from .place import Storage

__all__ = ["raw", "redis_server", "task_settings"]


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


settings.register_profile("short", max_examples=20, stateful_step_count=40, deadline=None, print_blob=True)
settings.register_profile("long", max_examples=1000, stateful_step_count=60, deadline=None, print_blob=True)
