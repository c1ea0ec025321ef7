"""Everything at once: no job is lost, and none is run twice in effect."""

from pathlib import Path

import pytest

from darkroom.tasks.catalogue import ModelEntry

from .adapters import PAGES, catalogue
from .place import Storage, open_place
from .storm import Outcome, Plan, run

SHORT = Plan(
    seed=0,
    jobs=20,
    submitting=10,
    restarts=(4, 9),
    restart_lasts=1,
    storage_away=(5, 9),
    cut_every=1,
    lasting=15,
    longest=300,
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(1, 1 + metafunc.config.getoption("--storms", default=0)))


def weather(plan: Plan, entry: ModelEntry, storage: Storage, folder: Path, **environment: str) -> Outcome:
    storage.empty()
    environment |= {"DARKROOM_LORA_PAGES": str(PAGES)}
    with open_place(entry, storage, folder, catalogue=catalogue(entry, folder), **environment) as place:
        outcome = run(plan, place)
        print(plan, outcome)  # noqa: T201 - `make faults` shows it
        print(f"the workers' logs: {folder}")  # noqa: T201
    return outcome


def test_a_short_storm(entry: ModelEntry, storage: Storage, tmp_path: Path) -> None:
    # So few deaths do not tell a job that kills its workers from a storm.
    assert weather(SHORT, entry, storage, tmp_path, DARKROOM_MAX_LOSSES="10").wrong == []


def test_a_storm(seed: int, entry: ModelEntry, storage: Storage, tmp_path: Path) -> None:
    assert weather(Plan(seed), entry, storage, tmp_path, DARKROOM_LEASE_SECONDS="10").wrong == []
