"""The docs name what there is: every setting, scheduler, event type and log action, and no page that is not there."""

import re
from pathlib import Path

import pytest

from darkroom.storage import StorageSettings
from darkroom.tasks import EVENT_TYPES, SCHEDULERS, TaskSettings
from darkroom.tasks.catalogue import builtin_catalogue
from darkroom.worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)

INTERNAL = {"lifeline", "incarnation"}  # between the parent and its processes


@pytest.mark.parametrize("settings", [TaskSettings, StorageSettings, WorkerSettings])
def test_every_setting_is_named(settings: type[TaskSettings]) -> None:
    missing = [
        name for name in settings.model_fields if name not in INTERNAL and f"DARKROOM_{name.upper()}" not in TEXT
    ]
    assert not missing


def test_every_scheduler_event_and_model_is_named() -> None:
    names = [*SCHEDULERS, *(label for label, _ in SCHEDULERS.values()), *EVENT_TYPES, *builtin_catalogue()]
    assert [name for name in names if name not in TEXT] == []


def test_every_log_action_is_named() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "worker").rglob("*.py"))
    actions = set(re.findall(r"\.(?:info|warning|error|log)\(\s*(?:record\.levelno, )?\"([a-z_]+\.[a-z_]+)\"", source))
    assert len(actions) > 10
    assert sorted(action for action in actions if action not in TEXT) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
