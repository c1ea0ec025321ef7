"""What tests of every kind share."""

import logging
import os
import shlex
from collections.abc import Callable, Iterator
from functools import cache

import execnet
import pytest
import structlog

# Before torch is imported: tiny models gain nothing from a second thread, and other tests run beside.
os.environ["OMP_NUM_THREADS"] = "1"

from darkroom.tasks.catalogue import Family, ModelEntry

from .nursery import nursery

TinyModels = Callable[[Family], ModelEntry]


def pytest_xdist_setupnodes(specs: list[execnet.XSpec]) -> None:
    """Test processes are forks of the nursery, too: torch is imported once for all of them."""
    for spec in specs:
        spec.python = shlex.join(nursery().command())


@pytest.fixture(scope="session", autouse=True)
def _clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The developer's own settings reach no test, and no test pins models in the developer's home."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("DARKROOM_")]:
            patch.delenv(name)
        patch.setenv("DARKROOM_MODELS_DIR", str(tmp_path_factory.mktemp("models-dir")))
        yield


@pytest.fixture(autouse=True)
def _clean_logs() -> Iterator[None]:
    """A program that ran in this process sends lines to its streams; the next test's lines are not sent there, too."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Tiny real models by family, each written once a session. Read only: copy the folder to change it."""
    from darkroom.worker.models.tiny import make_tiny

    @cache
    def build(family: Family) -> ModelEntry:
        return make_tiny(family, tmp_path_factory.mktemp("models") / f"tiny-{family}")

    return build
