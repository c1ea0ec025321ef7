"""`darkroom store`, and what the other commands say of a store that is not the one."""

from pathlib import Path

import pytest

from darkroom.cli.doctor import checks
from darkroom.cli.doctor.check import Check
from darkroom.cli.doctor.checks import guarded

from .conftest import Call


@pytest.fixture(autouse=True)
def own_keys(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The session's server, and a store that nothing else uses; after `call`, which sets the variables."""
    monkeypatch.setenv("DARKROOM_REDIS_PREFIX", f"{tmp_path.name}:")
    monkeypatch.setenv("DARKROOM_STORAGE_URL", (tmp_path / "old").as_uri())


def test_a_store_is_adopted(call: Call, tmp_path: Path) -> None:
    first = call("store", "adopt", "--json").json
    assert (first["before"], first["changed"], first["mark_made"]) == (None, True, True)
    assert (tmp_path / "old" / ".darkroom-store").read_text().strip() == first["mark"]
    assert "as before" in call("store", "adopt").out
    assert [check.state for check in storage_checks()] == ["ok"]

    (tmp_path / "old").rename(tmp_path / "unmounted")
    (broken,) = storage_checks()
    assert (broken.state, "darkroom store adopt" in broken.hint) == ("broken", True)
    refused = call("gc", "--expired", "--json")
    assert (refused.code, refused.error["code"]) == (5, "storage_away")
    assert not (tmp_path / "old").exists()

    (tmp_path / "new").mkdir()
    (tmp_path / "new" / ".darkroom-store").write_text("another\n")
    adopted = call("--storage-url", (tmp_path / "new").as_uri(), "store", "adopt", "--json").json
    assert (adopted["before"], adopted["mark"], adopted["mark_made"]) == (first["mark"], "another", False)
    assert [check.state for check in storage_checks()] == ["ok"]


def storage_checks() -> list[Check]:
    """As `darkroom doctor` finds it."""
    return list(guarded("storage", checks.storage))
