"""LoRA files on this machine: found, pinned, pulled, and told of where they are not what they were."""

import hashlib
import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from darkroom.tasks.adapters import LoraEntry
from darkroom.worker.adapters.places import LocatedLora, find_lora, pin_found
from darkroom.worker.adapters.pull import pull_lora
from darkroom.worker.errors import (
    AdapterCorrupt,
    AdapterDigestMismatch,
    AdapterError,
    AdapterIncompatible,
    AdapterMissing,
    ModelMissing,
)
from darkroom.worker.models.hub import RemoteFile, RemoteModel
from darkroom.worker.models.lockfile import LockedModel, pin, read_lock
from darkroom.worker.settings import WorkerSettings
from tests.loras import small_lora

COMMIT, NEXT = "1" * 40, "2" * 40


@pytest.fixture
def settings(tmp_path: Path) -> WorkerSettings:
    return WorkerSettings(models_dir=tmp_path / "models")


@pytest.fixture
def own(tmp_path: Path) -> LoraEntry:
    """One of the operator's."""
    path = small_lora(tmp_path / "own" / "pen.safetensors")
    return LoraEntry.model_validate({"name": "pen", "family": "sdxl", "source": {"type": "file", "path": path}})


@dataclass
class FolderHub:
    """A repository, a folder for each commit, that answers as the hub does; `fetched` is what was asked for."""

    commits: dict[str, Path]
    main: str = COMMIT
    fetched: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)

    def listing(self, repo: str, revision: str) -> RemoteModel:
        commit = self.main if revision == "main" else revision
        files = {path.name: path.read_bytes() for path in self.commits[commit].iterdir()}
        sizes = {
            name: RemoteFile(len(data), self.digests.get(name, hashlib.sha256(data).hexdigest()))
            for name, data in files.items()
        }
        return RemoteModel(commit, sizes)

    def snapshot(self, *, revision: str, local_dir: Path, allow_patterns: list[str], **_: Any) -> None:
        local_dir.mkdir(parents=True, exist_ok=True)
        for name in allow_patterns:
            if not (local_dir / name).exists():
                self.fetched.append(name)
                shutil.copy(self.commits[revision] / name, local_dir / name)


@pytest.fixture
def hub(tmp_path: Path) -> FolderHub:
    small_lora(tmp_path / "first" / "pen.safetensors")
    small_lora(tmp_path / "second" / "pen.safetensors", seed=1)
    (tmp_path / "first" / "README.md").write_text("card")
    return FolderHub({COMMIT: tmp_path / "first", NEXT: tmp_path / "second"})


def of_hub(**fields: Any) -> LoraEntry:
    source = {"type": "hub", "repo": "some/loras", "file": "pen.safetensors"}
    return LoraEntry.model_validate({"name": "pen", "family": "sdxl", "source": source, **fields})


def fetch(entry: LoraEntry, hub: FolderHub, settings: WorkerSettings, **options: Any) -> Any:
    return pull_lora(entry, settings, listing=hub.listing, snapshot=hub.snapshot, **options)


def used(entry: LoraEntry, settings: WorkerSettings) -> LocatedLora:
    """As a worker does at its start with one that fits."""
    found = find_lora(entry, settings)
    pin_found(entry, found, settings)
    return found


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_ones_own_is_pinned_when_it_is_first_used(own: LoraEntry, settings: WorkerSettings) -> None:
    found = find_lora(own, settings)
    assert (found.sha256, found.revision) == (sha256(found.path), "local")
    assert read_lock(settings.models_dir).models == {}
    pin_found(own, found, settings)
    locked = read_lock(settings.models_dir).models
    assert locked.keys() == {"loras/pen"}
    assert [file.sha256 for file in locked["loras/pen"].files.values()] == [found.sha256]
    assert find_lora(own, settings) == replace(found, unpinned=None)


def test_a_file_that_was_replaced_is_told(own: LoraEntry, settings: WorkerSettings) -> None:
    path = used(own, settings).path
    old = sha256(path)
    small_lora(path, seed=1)
    said = f"LoRA pen: {path} changed since.* is {sha256(path)} and not {old}"
    with pytest.raises(AdapterDigestMismatch, match=said) as caught:
        find_lora(own, settings)
    assert "delete loras/pen from darkroom-models.lock" in caught.value.hint


def test_another_path_in_the_catalogue_is_another_file(
    own: LoraEntry, settings: WorkerSettings, tmp_path: Path
) -> None:
    first = used(own, settings)
    source = {"type": "file", "path": small_lora(tmp_path / "new.safetensors", seed=1)}
    moved = LoraEntry.model_validate({**own.model_dump(), "source": source})
    assert find_lora(moved, settings).sha256 != first.sha256


def test_a_digest_in_the_catalogue_is_the_pin(own: LoraEntry, settings: WorkerSettings) -> None:
    assert not settings.models_dir.exists()
    right = find_lora(own, settings).sha256
    assert used(own.model_copy(update={"sha256": right}), settings).sha256 == right
    assert not settings.models_dir.exists()
    with pytest.raises(AdapterDigestMismatch, match="the catalogue names " + "0" * 64):
        find_lora(own.model_copy(update={"sha256": "0" * 64}), settings)


def test_a_file_that_is_not_there(own: LoraEntry, settings: WorkerSettings, tmp_path: Path) -> None:
    gone = own.model_copy(update={"source": own.source.model_copy(update={"path": tmp_path / "no.safetensors"})})
    with pytest.raises(AdapterMissing, match=r"no\.safetensors is not there"):
        find_lora(gone, settings)
    folder = own.model_copy(update={"source": own.source.model_copy(update={"path": tmp_path})})
    with pytest.raises(AdapterMissing, match="is no regular file"):
        find_lora(folder, settings)
    os.mkfifo(tmp_path / "fifo.safetensors")
    fifo = own.model_copy(update={"source": own.source.model_copy(update={"path": tmp_path / "fifo.safetensors"})})
    with pytest.raises(AdapterMissing, match=r"LoRA pen: .*fifo\.safetensors is no regular file"):
        find_lora(fifo, settings)
    bundled = LoraEntry.model_validate(
        {"name": "x", "family": "sd", "source": {"type": "bundled", "name": "x"}, "sha256": "0" * 64}
    )
    with pytest.raises(AdapterMissing) as caught:
        find_lora(bundled, settings)
    assert caught.value.hint == "install Darkroom again"


def test_what_was_pulled_is_found_at_its_commit(hub: FolderHub, settings: WorkerSettings) -> None:
    told: list[tuple[int, int]] = []
    with pytest.raises(AdapterMissing, match="LoRA pen was not pulled") as caught:
        find_lora(of_hub(), settings)
    assert caught.value.hint == "run `darkroom loras pull pen`"
    found = fetch(of_hub(), hub, settings, progress=lambda done, total: told.append((done, total)))
    assert (found.path, found.revision) == (settings.models_dir / "loras/pen" / COMMIT / "pen.safetensors", COMMIT)
    assert told[-1][0] == told[-1][1]
    assert hub.fetched == ["pen.safetensors"]
    assert find_lora(of_hub(), settings) == found
    pinned = read_lock(settings.models_dir).models["loras/pen"]
    assert (pinned.source, pinned.asked, pinned.revision) == ("some/loras", "main", COMMIT)


def test_a_second_pull_keeps_to_the_pin(hub: FolderHub, settings: WorkerSettings) -> None:
    first = fetch(of_hub(), hub, settings)
    hub.main = NEXT
    hub.fetched.clear()
    assert fetch(of_hub(), hub, settings) == first
    assert hub.fetched == []
    small_lora(first.path, seed=7)
    with pytest.raises(AdapterDigestMismatch) as caught:
        find_lora(of_hub(), settings)
    assert caught.value.hint == "run `darkroom loras pull pen`"
    assert fetch(of_hub(), hub, settings) == first
    assert hub.fetched == ["pen.safetensors"]


def test_an_edited_entry_asks_for_another_pull(hub: FolderHub, settings: WorkerSettings) -> None:
    first = fetch(of_hub(), hub, settings)
    source = {"type": "hub", "repo": "some/loras", "file": "pen.safetensors", "revision": NEXT}
    with pytest.raises(AdapterMissing):
        find_lora(of_hub(source=source), settings)
    assert fetch(of_hub(source=source), hub, settings).sha256 != first.sha256


def refused(error: type[AdapterError], entry: LoraEntry, hub: FolderHub, settings: WorkerSettings) -> str:
    with pytest.raises(error) as caught:
        fetch(entry, hub, settings)
    assert read_lock(settings.models_dir).models == {}
    return str(caught.value)


def test_what_is_not_pinned(hub: FolderHub, settings: WorkerSettings, own: LoraEntry) -> None:
    source = {"type": "hub", "repo": "some/loras", "file": "ink.safetensors"}
    assert "its .safetensors files are: pen.safetensors" in refused(
        AdapterMissing, of_hub(source=source), hub, settings
    )
    assert "the catalogue names" in refused(AdapterDigestMismatch, of_hub(sha256="0" * 64), hub, settings)
    assert "nothing to pull" in refused(AdapterIncompatible, own, hub, settings)
    hub.digests["pen.safetensors"] = "0" * 64
    assert "did not arrive as the hub has it" in refused(AdapterCorrupt, of_hub(), hub, settings)


def test_a_file_that_is_no_lora_is_not_pinned(hub: FolderHub, settings: WorkerSettings) -> None:
    (hub.commits[COMMIT] / "pen.safetensors").write_bytes(b"\xff" * 20)
    refused(AdapterCorrupt, of_hub(), hub, settings)


def test_a_commit_whose_file_changed(hub: FolderHub, settings: WorkerSettings) -> None:
    found = fetch(of_hub(), hub, settings)
    found.path.unlink()
    small_lora(hub.commits[COMMIT] / "pen.safetensors", seed=9)
    with pytest.raises(AdapterDigestMismatch, match="than was pinned"):
        fetch(of_hub(), hub, settings)


def test_a_disk_without_room(hub: FolderHub, settings: WorkerSettings) -> None:
    def endless(repo: str, revision: str) -> RemoteModel:
        return RemoteModel(COMMIT, {"pen.safetensors": RemoteFile(10**18)})

    with pytest.raises(ModelMissing, match="GB free"):
        pull_lora(of_hub(), settings, listing=endless, snapshot=hub.snapshot)


def test_the_lock_file_has_both_models_and_loras(own: LoraEntry, settings: WorkerSettings) -> None:
    """A model's entry stays when a LoRA is pinned, and a LoRA's when a model is."""
    pin(settings.models_dir, "mine", LockedModel(source="somewhere", files={}))
    used(own, settings)
    pin(settings.models_dir, "other", LockedModel(source="somewhere", files={}))
    assert read_lock(settings.models_dir).models.keys() == {"loras/pen", "mine", "other"}
