"""Style adapters on this machine: fetched, pinned, and told of where they are not what they were."""

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from darkroom.cli.app import run
from darkroom.cli.doctor import style_checks
from darkroom.tasks.adapters import StyleEntry
from darkroom.tasks.catalogue import CatalogueError, load_styles
from darkroom.worker.adapters.style_found import LocatedStyle, find_style, pin_style
from darkroom.worker.adapters.style_pull import pull_style
from darkroom.worker.errors import AdapterCorrupt, AdapterDigestMismatch, AdapterIncompatible, AdapterMissing
from darkroom.worker.models.hub import RemoteFile, RemoteModel
from darkroom.worker.models.lockfile import read_lock
from darkroom.worker.settings import WorkerSettings
from tests.styles import write_style
from tests.unit.worker.conftest import Models

COMMIT = "1" * 40


@pytest.fixture(scope="module")
def written(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ip_adapter.safetensors` and `image_encoder`. Read only."""
    folder = tmp_path_factory.mktemp("written")
    write_style(models("sdxl").components["unet"], folder)
    return folder


@dataclass
class Repository:
    """A folder that answers as the hub does; `fetched` is what was asked for."""

    folder: Path
    fetched: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)

    def listing(self, repo: str, revision: str) -> RemoteModel:
        files = {str(path.relative_to(self.folder)): path for path in self.folder.rglob("*") if path.is_file()}
        sizes = {
            name: RemoteFile(path.stat().st_size, self.digests.get(name, hashlib.sha256(path.read_bytes()).hexdigest()))
            for name, path in files.items()
        }
        return RemoteModel(COMMIT, sizes)

    def snapshot(self, *, local_dir: Path, allow_patterns: list[str], **_: Any) -> None:
        for name in allow_patterns:
            if not (local_dir / name).exists():
                (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
                self.fetched.append(name)
                shutil.copy(self.folder / name, local_dir / name)


@pytest.fixture
def hub(written: Path, tmp_path: Path) -> Repository:
    """With a pickle beside the encoder's weights, as public repositories have it."""
    shutil.copytree(written, tmp_path / "repo" / "models")
    (tmp_path / "repo" / "models" / "image_encoder" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    return Repository(tmp_path / "repo")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkerSettings:
    monkeypatch.setenv("DARKROOM_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("DARKROOM_CATALOGUE", str(tmp_path / "catalogue.json"))
    return WorkerSettings()


FILE, ENCODER = "models/ip_adapter.safetensors", "models/image_encoder"


def of_hub(**fields: Any) -> StyleEntry:
    source = {"type": "hub", "repo": "some/styles", "file": FILE, "image_encoder": ENCODER, **fields}
    return StyleEntry.model_validate({"name": "paint", "family": "sdxl", "source": source})


def fetch(hub: Repository, settings: WorkerSettings, **fields: Any) -> LocatedStyle:
    return pull_style(of_hub(**fields), settings, listing=hub.listing, snapshot=hub.snapshot)


def own(settings: WorkerSettings, folder: Path) -> StyleEntry:
    source = {"type": "file", "path": str(folder / "ip_adapter.safetensors"), "image_encoder": str(folder / "enc")}
    assert settings.catalogue
    entry = {"name": "paint", "family": "sdxl", "source": source}
    settings.catalogue.write_text(json.dumps({"styles": [entry]}))
    return load_styles(settings.catalogue)["paint"]


def test_what_is_needed_is_fetched_and_pinned_once(hub: Repository, settings: WorkerSettings) -> None:
    found = fetch(hub, settings)
    assert sorted(hub.fetched) == [f"{ENCODER}/config.json", f"{ENCODER}/model.safetensors", FILE]
    assert found.revision == COMMIT
    locked = read_lock(settings.models_dir).models["styles/paint"]
    assert found.digests == {name: file.sha256 for name, file in locked.files.items()}
    assert find_style(of_hub(), settings) == fetch(hub, settings) == found
    assert len(hub.fetched) == 3
    found.files.adapter.write_bytes(b"changed")
    with pytest.raises(AdapterDigestMismatch, match=r"paint: ip_adapter\.safetensors changed since"):
        find_style(of_hub(), settings)
    assert fetch(hub, settings) == found


def test_what_is_not_there_is_named(hub: Repository, settings: WorkerSettings) -> None:
    with pytest.raises(AdapterMissing, match="paint was not pulled") as caught:
        find_style(of_hub(), settings)
    assert caught.value.hint == "run `darkroom styles pull paint`"
    with pytest.raises(
        AdapterMissing, match=r"no other\.safetensors and no models/x/config\.json and no models/x/model"
    ):
        fetch(hub, settings, file="other.safetensors", image_encoder="models/x")
    (hub.folder / ENCODER / "model.safetensors").unlink()
    with pytest.raises(AdapterMissing, match=r"some/styles has no models/image_encoder/model\.safetensors at main"):
        fetch(hub, settings)


def test_what_is_no_adapter_or_arrives_otherwise_is_not_pinned(hub: Repository, settings: WorkerSettings) -> None:
    hub.digests[FILE] = "0" * 64
    with pytest.raises(AdapterCorrupt, match="did not arrive as the hub has it"):
        fetch(hub, settings)
    hub.digests.clear()
    with pytest.raises(AdapterIncompatible, match="no IP-Adapter"):
        fetch(hub, settings, file=f"{ENCODER}/model.safetensors")
    assert read_lock(settings.models_dir).models == {}


def test_names_lead_out_of_nothing() -> None:
    for name in ("../x", "/etc"):
        with pytest.raises(ValueError, match="leads out of the repository"):
            of_hub(image_encoder=name)
    with pytest.raises(ValueError, match=r"is no \.safetensors file"):
        of_hub(file="models/ip-adapter.bin")


def test_the_catalogue_names_what_is_wrong_with_a_style(settings: WorkerSettings, tmp_path: Path) -> None:
    own(settings, tmp_path)
    assert settings.catalogue
    table = json.loads(settings.catalogue.read_text())
    for fault, words in (
        ({"models": ["sd-1.5"]}, r"styles\.paint\.models: sd-1.5 is of the family sd, and the style adapter for sdxl"),
        ({"models": ["away"]}, r"styles\.paint\.models: no model 'away'"),
        ({"source": {"type": "bundled", "name": "starter"}}, r"styles\.paint.*`digests` are missing"),
        ({"scale": 1}, r"styles\.paint\.scale"),
    ):
        settings.catalogue.write_text(json.dumps({"styles": [{**table["styles"][0], **fault}]}))
        with pytest.raises(CatalogueError, match=words):
            load_styles(settings.catalogue)


def told(folder: Path, *, digests: bool = False) -> list[tuple[str, str]]:
    found = [(check.state, check.message) for check in style_checks.styles(digests=digests)]
    return [one for one in found if "paint" in one[1] or str(folder) in one[1]]  # others come with Darkroom


def test_the_doctor_and_the_list_tell_of_them(
    settings: WorkerSettings, written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = own(settings, tmp_path)
    assert [state for state, _ in told(tmp_path)] == ["broken"]
    shutil.copy(written / "ip_adapter.safetensors", tmp_path)
    ((state, message),) = told(tmp_path)
    assert (state, message.endswith("works with the image encoder that it was trained with")) == ("broken", True)
    shutil.copytree(written / "image_encoder", tmp_path / "enc")
    ((state, message),) = told(tmp_path)
    assert (state, message.startswith("paint is here (local, ")) == ("ok", True)
    found = find_style(entry, settings)
    assert read_lock(settings.models_dir).models == {}
    pin_style(entry, found, settings)
    assert told(tmp_path, digests=True)[0][1].endswith("its digests are the pinned ones")
    assert run(["styles", "list", "--json"]) == 0
    states = {style["name"]: style["state"] for style in json.loads(capsys.readouterr().out)["styles"]}
    assert (
        states.items() >= {"ip-adapter-sdxl": "not pulled", "ip-adapter-sd-1.5": "not pulled", "paint": "local"}.items()
    )
    whole = (tmp_path / "ip_adapter.safetensors").read_bytes()
    (tmp_path / "ip_adapter.safetensors").write_bytes(bytes(len(whole)))
    assert run(["styles", "list", "--json"]) == 0
    paint = next(one for one in json.loads(capsys.readouterr().out)["styles"] if one["name"] == "paint")
    assert (paint["state"], "ip_adapter.safetensors: " in paint["reason"]) == ("broken", True)
    (tmp_path / "ip_adapter.safetensors").write_bytes(whole)
    assert run(["styles", "inspect", "paint", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["files"]) == [
        "ip_adapter.safetensors",
        "image_encoder/config.json",
        "image_encoder/model.safetensors",
    ]
    assert run(["styles", "inspect", "ip-adapter-sdxl"]) == 4
    assert run(["styles", "pull", "pain"]) == 4
    assert "did you mean paint?" in capsys.readouterr().err
