"""Pulling, against a folder that answers as the hub does."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from darkroom.tasks.catalogue import Family, HubSource, ModelEntry
from darkroom.worker.errors import (
    ModelCorrupt,
    ModelDigestMismatch,
    ModelIncompatible,
    ModelMissing,
    ModelUnsafe,
)
from darkroom.worker.models.device import Placement
from darkroom.worker.models.hub import RemoteFile, RemoteModel
from darkroom.worker.models.loading import load_model
from darkroom.worker.models.lockfile import LockedModel, pin, read_lock
from darkroom.worker.models.pull import pull
from darkroom.worker.settings import WorkerSettings
from tests.unit.worker.models.conftest import Copied

FIRST, SECOND = "1" * 40, "2" * 40
UNET = "unet/diffusion_pytorch_model.safetensors"


@dataclass
class FolderHub:
    """Commits of one repository, each a folder. Records what was asked for."""

    commits: dict[str, Path]
    main: str
    fetched: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def listing(self, repo: str, revision: str) -> RemoteModel:
        self.asked.append(revision)
        commit = self.main if revision == "main" else revision
        files = sorted(path for path in self.commits[commit].rglob("*") if path.is_file())
        return RemoteModel(commit, {str(path.relative_to(self.commits[commit])): self._file(path) for path in files})

    def _file(self, path: Path) -> RemoteFile:
        data = path.read_bytes()
        large = path.suffix == ".safetensors"  # only large files have their digest in the listing
        return RemoteFile(len(data), hashlib.sha256(data).hexdigest() if large else None)

    def snapshot(self, *, revision: str, local_dir: Path, allow_patterns: list[str], **_: Any) -> str:
        source = self.commits[revision]
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            name, target = str(path.relative_to(source)), local_dir / path.relative_to(source)
            if any(fnmatch(name, pattern) for pattern in allow_patterns) and not target.exists():
                self.fetched.append(name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
        return str(local_dir)


@pytest.fixture
def hub(copied: Copied, tmp_path: Path) -> Callable[[Family], tuple[ModelEntry, FolderHub]]:
    def make(name: Family) -> tuple[ModelEntry, FolderHub]:
        entry = copied(name)
        (tmp_path / "model" / "README.md").write_text("card")
        source = HubSource(repo="some/model", variant="fp16")
        return entry.model_copy(update={"source": source}), FolderHub({FIRST: tmp_path / "model"}, FIRST)

    return make


Hub = Callable[[Family], tuple[ModelEntry, FolderHub]]


def fetch(entry: ModelEntry, hub: FolderHub, settings: WorkerSettings, **options: Any) -> LockedModel:
    return pull(entry, settings, listing=hub.listing, snapshot=hub.snapshot, **options)


def test_what_was_pulled_loads_at_its_commit(hub: Hub, settings: WorkerSettings, placement: Placement) -> None:
    entry, remote = hub("sdxl")
    told: list[tuple[int, int]] = []
    locked = fetch(entry, remote, settings, progress=lambda done, total: told.append((done, total)))
    assert (locked.source, locked.asked, locked.revision, locked.variant) == ("some/model", "main", FIRST, "fp16")
    assert told[-1][0] == told[-1][1]
    model = load_model(entry, placement, settings)
    assert model.revision == FIRST
    assert set(model.digests) == set(locked.files)
    assert (settings.models_dir / entry.name / FIRST / "README.md").is_file()


def test_a_model_that_was_not_pulled_says_how(hub: Hub, settings: WorkerSettings, placement: Placement) -> None:
    entry, _ = hub("sd")
    with pytest.raises(ModelMissing, match="some/model at main, variant fp16") as caught:
        load_model(entry, placement, settings)
    assert caught.value.hint == f"run `darkroom models pull {entry.name}`"


def test_a_model_made_of_another_is_pulled_with_it(hub: Hub, settings: WorkerSettings, placement: Placement) -> None:
    entry, remote = hub("sd")
    derived = entry.model_copy(update={"name": "quick", "base": entry.name})
    with pytest.raises(ModelMissing) as caught:
        load_model(derived, placement, settings)
    assert caught.value.hint == f"run `darkroom models pull {entry.name}`"
    locked = fetch(derived, remote, settings)
    assert read_lock(settings.models_dir).models == {entry.name: locked}
    remote.asked.clear()
    assert fetch(entry, remote, settings) == locked
    assert remote.asked == []


def test_the_second_pull_asks_nothing_when_all_is_there(hub: Hub, settings: WorkerSettings) -> None:
    entry, remote = hub("sd")
    first = fetch(entry, remote, settings)
    remote.asked.clear()
    assert fetch(entry, remote, settings) == first
    assert remote.asked == []


def test_the_second_pull_fetches_the_pinned_commit_whatever_main_is_now(
    hub: Hub, settings: WorkerSettings, tmp_path: Path
) -> None:
    entry, remote = hub("sd")
    first = fetch(entry, remote, settings)
    shutil.copytree(tmp_path / "model", tmp_path / "newer")
    (tmp_path / "newer" / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    remote.commits[SECOND], remote.main = tmp_path / "newer", SECOND
    shutil.rmtree(settings.models_dir / entry.name)
    assert fetch(entry, remote, settings) == first
    assert remote.asked[-1] == FIRST


@pytest.mark.parametrize("spoil", ["truncate", "change", "delete"])
def test_a_spoilt_file_alone_is_fetched_again(
    hub: Hub, settings: WorkerSettings, placement: Placement, spoil: str
) -> None:
    entry, remote = hub("sd")
    fetch(entry, remote, settings)
    path = settings.models_dir / entry.name / FIRST / UNET
    data = path.read_bytes()
    path.write_bytes({"truncate": data[:-5], "change": data[:-1] + b"?", "delete": b""}[spoil])
    if spoil == "delete":
        path.unlink()
    with pytest.raises((ModelCorrupt, ModelDigestMismatch, ModelMissing), match="unet"):
        load_model(entry, placement, settings)
    remote.fetched.clear()
    fetch(entry, remote, settings)
    assert remote.fetched == [UNET]
    assert load_model(entry, placement, settings).revision == FIRST


def test_a_commit_whose_files_are_others_than_were_pinned_is_refused(
    hub: Hub, settings: WorkerSettings, tmp_path: Path
) -> None:
    entry, remote = hub("sd")
    fetch(entry, remote, settings)
    shutil.rmtree(settings.models_dir / entry.name)
    index = tmp_path / "model" / "model_index.json"
    index.write_text(index.read_text() + " ")
    with pytest.raises((ModelDigestMismatch, ModelCorrupt), match=r"model_index\.json"):
        fetch(entry, remote, settings)


def test_a_download_that_is_not_what_the_hub_lists_is_not_pinned(hub: Hub, settings: WorkerSettings) -> None:
    entry, remote = hub("sd")
    honest = remote.snapshot

    def broken(**asked: Any) -> None:
        honest(**asked)
        path = asked["local_dir"] / UNET
        path.write_bytes(path.read_bytes()[:-1] + b"?")

    with pytest.raises(ModelCorrupt, match="did not arrive"):
        pull(entry, settings, listing=remote.listing, snapshot=broken)
    assert read_lock(settings.models_dir).models == {}


def test_an_edited_catalogue_entry_is_pulled_anew(hub: Hub, settings: WorkerSettings, placement: Placement) -> None:
    entry, remote = hub("sd")
    fetch(entry, remote, settings)
    plain = entry.model_copy(update={"source": HubSource(repo="some/model")})
    with pytest.raises(ModelMissing, match="was not pulled"):
        load_model(plain, placement, settings)
    assert fetch(plain, remote, settings).variant is None
    assert load_model(plain, placement, settings).revision == FIRST


def test_variant_files_are_taken_alone_and_parts_without_them_plain(
    hub: Hub, settings: WorkerSettings, tmp_path: Path
) -> None:
    entry, remote = hub("sd")
    unet = tmp_path / "model" / UNET
    shutil.copy(unet, unet.with_name("diffusion_pytorch_model.fp16.safetensors"))
    fetch(entry, remote, settings)
    weights = [name for name in remote.fetched if name.endswith(".safetensors")]
    assert weights == [
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ]


def test_unsafe_configs_are_refused_before_they_are_pinned(
    hub: Hub, settings: WorkerSettings, tmp_path: Path, edit: Callable[..., None]
) -> None:
    entry, remote = hub("sd")
    edit(tmp_path / "model" / "unet" / "config.json", auto_map={"AutoModel": "evil.Model"})
    with pytest.raises(ModelUnsafe):
        fetch(entry, remote, settings)
    assert read_lock(settings.models_dir).models == {}


def test_a_disk_that_is_too_small_is_told_before_the_download(hub: Hub, settings: WorkerSettings) -> None:
    entry, remote = hub("sd")
    listed = remote.listing("some/model", "main")
    huge = RemoteModel(FIRST, {**listed.files, UNET: RemoteFile(10**18)})
    with pytest.raises(ModelMissing, match="GB more"):
        pull(entry, settings, listing=lambda repo, revision: huge, snapshot=remote.snapshot)
    assert remote.fetched == []


def test_a_local_model_has_nothing_to_pull(copied: Copied, settings: WorkerSettings) -> None:
    with pytest.raises(ModelIncompatible, match="nothing to pull"):
        pull(copied("sd"), settings)


def test_without_the_hub_a_pull_says_so_and_a_pinned_model_loads(
    hub: Hub, settings: WorkerSettings, placement: Placement
) -> None:
    entry, remote = hub("sd")

    def offline(repo: str, revision: str) -> RemoteModel:
        raise LocalEntryNotFoundError("Cannot find an appropriate cached snapshot folder")

    with pytest.raises(ModelMissing, match="cannot be reached"):
        pull(entry, settings, listing=offline, snapshot=remote.snapshot)
    locked = fetch(entry, remote, settings)
    assert pull(entry, settings, listing=offline, snapshot=remote.snapshot) == locked
    assert load_model(entry, placement, settings).revision == FIRST


def test_a_pin_for_a_commit_that_is_not_here_is_missing(
    hub: Hub, settings: WorkerSettings, placement: Placement
) -> None:
    """A lock file under version control, on a fresh machine."""
    entry, remote = hub("sd")
    locked = fetch(entry, remote, settings)
    fresh = WorkerSettings(models_dir=settings.models_dir / "fresh")
    pin(fresh.models_dir, entry.name, locked)
    with pytest.raises(ModelMissing, match="is not there") as caught:
        load_model(entry, placement, fresh)
    assert "darkroom models pull" in caught.value.hint
    assert fetch(entry, remote, fresh) == locked
    assert load_model(entry, placement, fresh).digests == {name: f.sha256 for name, f in locked.files.items()}
