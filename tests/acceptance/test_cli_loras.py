"""`darkroom loras`, and what other commands say of LoRAs."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from darkroom.tasks import TaskSettings
from darkroom.tasks.adapters import LoraOffer
from darkroom.tasks.catalogue import builtin_catalogue, builtin_contents
from darkroom.tasks.claims import retire, serve
from darkroom.tasks.redis_io import BlockingIO
from tests.acceptance.conftest import Call, Installation, Told
from tests.loras import small_lora

INK = LoraOffer(name="ink", sha256="a" * 64, rank=100, license="theirs")


@dataclass(frozen=True)
class Studio:
    """An operator's catalogue with a LoRA of his own, `pen`, and a model that always has it, `quick`."""

    call: Call
    folder: Path

    @property
    def pen(self) -> Path:
        return self.folder / "loras" / "pen.safetensors"

    def __call__(self, *arguments: str | Path) -> Told:
        options = ["--catalogue", self.folder / "catalogue.json", "--models-dir", self.folder / "models"]
        return self.call(*arguments, *options, "--json")


@pytest.fixture
def studio(call: Call, installation: Installation, tmp_path: Path) -> Studio:
    found = Studio(call, tmp_path)
    small_lora(found.pen)
    catalogue = json.loads((installation.folder / "catalogue.json").read_text())
    base = catalogue["models"][0]
    own = {"name": "quick", "base": base["name"], "own_loras": [{"name": "pen"}]}
    catalogue["models"].append({**{name: base[name] for name in ("defaults", "limits", "schedulers")}, **own})
    source = {"type": "file", "path": "loras/pen.safetensors"}
    catalogue["loras"] = [{"name": "pen", "family": "sdxl", "license": "my own", "scale": 0.8, "source": source}]
    (tmp_path / "catalogue.json").write_text(json.dumps(catalogue))
    return found


@pytest.fixture
def drawn(installation: Installation) -> Iterator[str]:
    """A model that a worker serves with a LoRA which no catalogue of this machine has; no process is behind it."""
    offer = builtin_catalogue()["sdxl"].offer().model_copy(update={"name": "drawn", "loras": [INK]})
    with closing(BlockingIO(TaskSettings.model_validate({"redis_url": installation.redis_url}))) as io:
        io.run(serve("hand", {}, 60, [offer], {"drawn": ["loras"]}))
        yield "drawn"
        io.run(retire("hand", ["drawn"]))


def test_list_has_those_of_the_catalogue_and_those_of_workers(studio: Studio, drawn: str) -> None:
    found = {lora["name"]: lora for lora in studio("loras", "list").json["loras"]}
    assert found.keys() == {"pen", "ink", *builtin_contents().loras}
    pen, ink = found["pen"], found["ink"]
    assert (pen["state"], pen["rank"], pen["scale"], pen["workers"], pen["families"]) == ("local", 4, 0.8, {}, ["sdxl"])
    assert (ink["state"], ink["rank"], ink["workers"], ink["families"]) == ("not here", 100, {drawn: 1}, ["sdxl"])
    assert (found["lcm-sdxl"]["state"], found["lcm-sdxl"]["rank"]) == ("not pulled", None)
    shown = studio.call("loras", "list").out
    assert f"{drawn} (1)" in shown
    assert "theirs" in shown


def test_show_says_all_of_one(studio: Studio, drawn: str) -> None:
    assert studio("loras", "show", "pen").json["source"]["path"] == str(studio.pen)
    assert studio("loras", "show", "ink").json["sha256"] == INK.sha256
    told = studio("loras", "show", "lcm-sdlx")
    assert (told.code, told.error["code"]) == (4, "adapter_missing")
    assert "did you mean lcm-sdxl?" in told.error["message"]


def test_list_and_show_know_a_file_that_no_worker_can_use(studio: Studio) -> None:
    whole = studio.pen.read_bytes()
    for content, state, said in (
        (b"PK\x03\x04" * 9, "broken", "a pickle under another name"),
        (None, "missing", "pen.safetensors is no regular file"),
        (whole, "local", ""),
    ):
        studio.pen.unlink() if studio.pen.is_file() else studio.pen.rmdir()
        studio.pen.write_bytes(content) if content else studio.pen.mkdir()
        found = {lora["name"]: lora for lora in studio("loras", "list").json["loras"]}["pen"]
        assert (found["state"], found["rank"]) == (state, None if said else 4)
        assert said in (studio("loras", "show", "pen").json["reason"] or "")


def test_inspect_by_name_and_by_path(studio: Studio) -> None:
    by_path, by_name = studio("loras", "inspect", studio.pen).json, studio("loras", "inspect", "pen").json
    assert by_path == by_name
    assert (by_path["rank"], by_path["parts"], by_path["naming"], by_path["title"]) == (4, ["unet"], "kohya", "A pen")
    assert "A pen" in studio.call("loras", "inspect", studio.pen).out
    told = studio("loras", "inspect", "lcm-sdxl")
    assert (told.code, told.error["hint"]) == (4, "run `darkroom loras pull lcm-sdxl`")


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("pen.ckpt", b"\x80", "adapter_unsafe"),
        ("pen.safetensors", b"\xff" * 20, "adapter_corrupt"),
        ("missing/pen.safetensors", None, "adapter_missing"),
    ],
)
def test_inspect_what_is_no_lora(studio: Studio, tmp_path: Path, name: str, content: bytes | None, code: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    told = studio("loras", "inspect", tmp_path / name)
    assert (told.code, told.error["code"]) == (4, code)


def test_pull_refuses_what_is_of_this_machine(studio: Studio) -> None:
    told = studio("loras", "pull", "pen")
    assert (told.code, told.error["code"]) == (4, "adapter_incompatible")
    assert "nothing to pull" in told.error["message"]
    assert studio("loras", "pull", "nope").error["code"] == "adapter_missing"


def test_without_a_server_what_workers_offer_is_not_known(studio: Studio) -> None:
    told = studio("--redis-url", "redis://127.0.0.1:1", "loras", "list")
    assert {lora["workers"] for lora in told.json["loras"]} == {None}
    assert "which are offered is not known" in told.err


def test_models_list_has_bases_and_loras(studio: Studio, drawn: str) -> None:
    found = {model["name"]: model for model in studio("models", "list").json["models"]}
    assert (found["quick"]["base"], found["quick"]["state"]) == ("tiny-sdxl", "local")
    assert [lora["name"] for lora in found[drawn]["loras"]] == ["ink"]
    studio.pen.unlink()
    found = {model["name"]: model for model in studio("models", "list").json["models"]}
    assert (found["quick"]["state"], found["tiny-sdxl"]["state"]) == ("missing", "local")


def submitted(call: Call, *options: str) -> Told:
    return call("submit", "a cat", "--model", "drawn", *options, "--json")


def test_submit_takes_loras(call: Call, drawn: str) -> None:
    told = submitted(call, "--lora", "ink:0.5")
    assert (told.code, told.json["warnings"]) == (0, [])
    request = call("status", told.json["id"], "--json").json["request"]
    assert request["loras"] == [{"name": "ink", "scale": 0.5, "sha256": INK.sha256}]
    assert submitted(call, "--loras", "ink").code == 0


@pytest.mark.parametrize(
    ("options", "faults"),
    [
        (["--lora", "in"], [("loras.0.name", "unknown_lora")]),
        (["--lora", "lcm-sd-1.5"], [("loras.0.name", "lora_not_for_model")]),
        (["--lora", "ink,ink:2"], [("loras.1.name", "lora_twice")]),
        (["--lora", "./ink.safetensors", "--lora", "ink:nan"],
         [("loras.0.name", "not_a_name"), ("loras.1.scale", "float_type")]),
    ],
)  # fmt: skip
def test_submit_names_what_is_wrong_with_a_lora(
    call: Call, drawn: str, options: list[str], faults: list[tuple[str, str]]
) -> None:
    told = submitted(call, *options)
    assert told.code == 2
    assert [(fault["field"], fault["code"]) for fault in told.error["faults"]] == faults
    assert "--lora: " in call("submit", "a cat", "--model", "drawn", *options).err
