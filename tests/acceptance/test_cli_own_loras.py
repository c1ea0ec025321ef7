"""`darkroom loras` about LoRAs that belong to a tenant: from a file to a picture, and back to a file."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import MODEL, Call, Installation, Told
from tests.loras import small_lora


def add(call: Call, path: Path, *more: str, name: str = "cat", tenant: str = "alice") -> Told:
    return call("loras", "add", path, "--name", name, "--tenant", tenant, "--model", MODEL, *more, "--json")


def own(call: Call, tenant: str = "alice") -> dict[str, Any]:
    told = call("loras", "list", "--tenant", tenant, "--json").json["loras"]
    return {one["name"]: one for one in told if one["own"]}


@pytest.fixture
def cat(call: Call, tmp_path: Path) -> Path:
    """A file that alice has as `cat`."""
    path = small_lora(tmp_path / "cat.safetensors")
    call("loras", "delete", "cat", "--tenant", "alice")
    told = add(call, path)
    assert told.code == 0, told.err
    return path


def test_from_a_file_to_a_picture_and_its_replay(call: Call, darkroom: Installation, cat: Path) -> None:
    asked = ("submit", "a fox", "--model", MODEL, "--steps", "2", "--seed", "1", "--wait", "--json")
    told = call(*asked, "--tenant", "alice", "--lora", "cat:0.5")
    assert told.code == 0, told.err
    job_id = told.lines[-1]["id"]
    request = call("status", job_id, "--json").json["request"]
    assert [(one["name"], one["own"]) for one in request["loras"]] == [("cat", True)]
    again = call("replay", job_id, "--json")
    assert (again.code, again.json["bit_equal"]) == (0, True)
    refused = call(*asked, "--tenant", "bob", "--lora", "cat")
    assert [fault["code"] for fault in refused.error["faults"]] == ["unknown_lora"]


def test_what_is_known_of_one(call: Call, cat: Path) -> None:
    said = call("loras", "show", "cat", "--tenant", "alice", "--json").json
    assert {**said, "sha256": "", "made": ""} == {
        **said,
        "name": "cat",
        "own": True,
        "tenant": "alice",
        "families": ["sdxl"],
        "state": "own",
        "rank": 4,
        "text": False,
        "base": MODEL,
        "bytes": cat.stat().st_size,
        "job": None,
        "sha256": "",
        "made": "",
    }
    assert own(call).keys() == {"cat"}
    assert own(call, "bob") == own(call, "default") == {}
    assert call("loras", "show", "cat", "--json").error["code"] == "adapter_missing"  # of the tenant `default`
    shown = call("loras", "list", "--tenant", "alice").out
    assert ("cat" in shown, "own" in shown) == (True, True)


def test_a_taken_name_is_replaced_on_purpose_alone(call: Call, cat: Path, tmp_path: Path) -> None:
    other = small_lora(tmp_path / "other.safetensors", rank=8, seed=1)
    told = add(call, other)
    assert (told.code, told.error["code"]) == (2, "lora_name_taken")
    assert add(call, cat).code == 0  # the same file
    assert add(call, other, "--overwrite").code == 0
    assert own(call)["cat"]["rank"] == 8


def test_it_comes_back_as_a_file(call: Call, cat: Path, tmp_path: Path) -> None:
    told = call("loras", "export", "cat", "-o", tmp_path / "again.safetensors", "--tenant", "alice", "--json")
    assert told.code == 0, told.err
    assert (tmp_path / "again.safetensors").read_bytes() == cat.read_bytes()
    told = call("loras", "export", "nope", "-o", tmp_path / "no.safetensors", "--json")
    assert (told.code, told.error["code"]) == (7, "lora_not_found")


def test_it_outlives_gc_and_what_redis_forgets(
    call: Call, cat: Path, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("gc", "--expired", "--json").code == 0
    monkeypatch.setenv("DARKROOM_REDIS_PREFIX", "elsewhere:")
    assert own(call) == {}
    told = call("loras", "restore", "--tenant", "alice", "--json")
    assert told.code == 0, told.err
    assert told.json["written"] == ["alice/cat"]
    assert own(call).keys() == {"cat"}


def test_what_is_deleted_is_gone(call: Call, cat: Path) -> None:
    assert call("loras", "delete", "cat", "--tenant", "alice", "--json").json["versions"] == 1
    assert own(call) == {}
    told = call("loras", "delete", "cat", "--tenant", "alice", "--json")
    assert (told.code, told.error["code"]) == (7, "lora_not_found")


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--name", "../cat"], "invalid_request", "never a path"),
        (["--name", "Cat"], "invalid_request", "small letters"),
        (["--name", "cat", "--tenant", "a/b"], "invalid_request", "no tenant's name"),
        (["--name", "cat", "--model", "nope"], "usage", "no such model"),
        (["--name", "cat"], "usage", "does not say which models it is for"),
    ],
)
def test_what_is_not_added(call: Call, tmp_path: Path, options: list[str], code: str, says: str) -> None:
    told = call("loras", "add", small_lora(tmp_path / "cat.safetensors"), *options, "--json")
    assert (told.code, told.error["code"]) == (2, code)
    assert says in told.error["message"]


@pytest.mark.parametrize(
    ("content", "code"), [(None, "adapter_missing"), (b"\xff" * 20, "adapter_corrupt"), (b"", "adapter_corrupt")]
)
def test_a_file_that_is_no_lora(call: Call, tmp_path: Path, content: bytes | None, code: str) -> None:
    path = tmp_path / "cat.safetensors"
    if content is not None:
        path.write_bytes(content)
    told = add(call, path)
    assert (told.code, told.error["code"]) == (4, code)


def test_a_lora_that_is_not_plain_is_refused(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    header = json.dumps({"x.hada_w1_a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    told = add(call, path)
    assert (told.code, told.error["code"]) == (4, "adapter_incompatible")
    assert "LoHa" in told.error["message"]
