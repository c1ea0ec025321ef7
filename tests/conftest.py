"""What tests of every kind share."""

import os
from collections.abc import Callable
from functools import cache

import pytest

from darkroom.tasks.catalogue import Family, ModelEntry

TinyModels = Callable[[Family], ModelEntry]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own DARKROOM_ settings do not reach a test."""
    for name in [name for name in os.environ if name.startswith("DARKROOM_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Tiny real models by family, each written once a session. Read only: copy the folder to change it."""
    from darkroom.worker.tiny import make_tiny

    @cache
    def build(family: Family) -> ModelEntry:
        return make_tiny(family, tmp_path_factory.mktemp("models") / f"tiny-{family}")

    return build
