"""`darkroom models`, `doctor` and `health`."""

import json
import shutil
from pathlib import Path

import pytest

from darkroom.cli.demo.server import LocalServer
from darkroom.tasks.catalogue import FolderSource
from tests.acceptance.conftest import MODEL, Call, Installation, Told
from tests.conftest import TinyModels


@pytest.fixture
def weights(tiny_models: TinyModels, tmp_path: Path) -> Path:
    """A copy of the model's folder, to be spoilt."""
    source = tiny_models("sdxl").source
    assert isinstance(source, FolderSource)
    return Path(shutil.copytree(source.path, tmp_path / "weights"))


def test_list_knows_what_is_served_and_what_is_here(call: Call, darkroom: Installation) -> None:
    models = {model["name"]: model for model in call("models", "list", "--json").json["models"]}
    assert (models[MODEL]["workers"], models[MODEL]["state"]) == (1, "local")
    assert (models["sdxl"]["workers"], models["sdxl"]["state"]) == (0, "not pulled")
    shown = call("models", "list").out
    assert all(name in shown for name in models)
    assert models["sdxl"]["license"] in shown


def test_list_without_a_server(call: Call) -> None:
    told = call("--redis-url", "redis://127.0.0.1:1", "models", "list", "--json")
    assert told.code == 0
    assert {model["workers"] for model in told.json["models"]} == {None}
    assert "which are served is not known" in told.err


def test_inspect_by_name_file_and_folder(call: Call, weights: Path) -> None:
    unet = "unet/diffusion_pytorch_model.safetensors"
    by_name = {file["file"]: file for file in call("models", "inspect", MODEL, "--json").json["files"]}
    (by_file,) = call("models", "inspect", weights / unet, "--json").json["files"]
    by_folder = call("models", "inspect", weights, "--json").json["files"]
    assert by_name[unet]["tensors"] == by_file["tensors"]
    assert by_name[unet]["metadata"] == {"format": "pt"}
    assert {file["file"] for file in by_folder} == by_name.keys()
    summary = call("models", "inspect", weights / unet).out
    every = call("models", "inspect", weights / unet, "--tensors").out
    assert f"{by_file['parameters']:,}" in summary
    assert "conv_in.weight" not in summary
    assert "conv_in.weight" in every


@pytest.mark.parametrize(
    ("name", "content", "code", "named"),
    [
        ("model.ckpt", b"\x80", 4, "model_unsafe"),
        ("model.safetensors", b"\xff" * 20, 4, "model_corrupt"),
        ("model.safetensors", b"", 4, "model_corrupt"),
        ("missing/model.safetensors", None, 1, "file_error"),
        ("nosuchmodel", None, 4, "model_unknown"),
    ],
)
def test_inspect_what_is_no_model(
    call: Call, tmp_path: Path, name: str, content: bytes | None, code: int, named: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    told = call("models", "inspect", tmp_path / name if "." in name else name, "--json")
    assert (told.code, told.error["code"]) == (code, named)


def test_pull_refuses_what_lies_here_already(call: Call) -> None:
    told = call("models", "pull", MODEL, "--json")
    assert (told.code, told.error["code"]) == (4, "model_incompatible")
    assert "nothing to pull" in told.error["message"]
    assert call("models", "pull", "nope", "--json").error["code"] == "model_unknown"


def test_doctor_finds_all_well(darkroom: Installation) -> None:
    told = darkroom.command("doctor", "--digests", "--json")
    found = {(check["part"], check["state"]) for check in told.json["checks"]}
    assert told.code == 0
    assert {(part, "ok") for part in ("versions", "server", "workers", "storage", "models", "device")} <= found
    assert any("every digest is the pinned one" in check["message"] for check in told.json["checks"])


def broken(told: Told) -> dict[str, str]:
    return {check["part"]: check["message"] for check in told.json["checks"] if check["state"] == "broken"}


def test_doctor_names_what_is_broken(call: Call, installation: Installation, weights: Path, tmp_path: Path) -> None:
    entry = json.loads((installation.folder / "catalogue.json").read_text())["models"][0]
    entry |= {"name": "gone", "source": {"type": "folder", "path": str(weights / "gone")}}
    (tmp_path / "catalogue.json").write_text(json.dumps({"models": [entry]}))
    (tmp_path / "file").write_text("")
    told = call("--redis-url", "redis://127.0.0.1:1", "--storage-url", (tmp_path / "file").as_uri(),
                "doctor", "--catalogue", tmp_path / "catalogue.json", "--json")  # fmt: skip
    assert told.code == 1
    assert broken(told).keys() >= {"server", "storage", "models"}
    assert str(weights / "gone") in broken(told)["models"]
    assert all(check["hint"] for check in told.json["checks"] if check["state"] == "broken")


def test_health(darkroom: Installation) -> None:
    told = darkroom.command("health", "--json")
    assert told.code == 0
    assert told.json["workers"][0]["models"] == [MODEL]


def test_health_without_a_worker_and_without_a_server(call: Call) -> None:
    with LocalServer() as server:
        told = call("--redis-url", server.url, "health", "--json")
    assert (told.code, told.error["code"]) == (1, "worker_not_up")
    assert call("--redis-url", "redis://127.0.0.1:1", "health").code == 3
