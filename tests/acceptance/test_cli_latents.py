"""Latents at a terminal: kept, decoded, encoded, begun with again; and commands about jobs that have no prompt."""

from pathlib import Path

import pytest
from PIL import Image

from tests.acceptance.conftest import Call, Installation


def pixels(path: str | Path) -> bytes:
    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


def test_from_a_prompt_to_latents_and_back(call: Call, darkroom: Installation, tmp_path: Path) -> None:
    kept = ("--output", "image", "--output", "latents", "--batching", "solo")
    both = call("submit", "a cat", *kept, "--save", tmp_path / "cat.png", "--json").json
    assert [Path(path).name for path in both["saved"]] == ["cat.png", "cat-latents-0.safetensors"]
    decoded = call(
        "submit", "--kind", "decode", "--image", both["saved"][1], "--save", tmp_path / "again.png", "--json"
    )
    assert decoded.code == 0, decoded.err
    assert (decoded.json["seeds"], decoded.json["needs"]) == ([], ["kind:decode"])
    assert pixels(tmp_path / "again.png") == pixels(tmp_path / "cat.png")
    assert "64x64" in (shown := call("status", decoded.json["id"]).out) and "seed" not in shown
    alone = call("submit", "a cat", "--output", "latents", "--save", tmp_path / "alone.safetensors", "--json").json
    assert alone["saved"] == [str(tmp_path / "alone.safetensors")] and alone["images"] == []
    began = call("submit", "a dog", "--image", alone["saved"][0], "--wait", "--json").json
    assert (began["kind"], began["state"]) == ("img2img", "succeeded")


def test_encode_with_save_and_its_listing_status_and_replay(call: Call, darkroom: Installation, tmp_path: Path) -> None:
    call("submit", "a cat", "--save", tmp_path / "cat.png")
    told = call("submit", "--kind", "encode", "--image", tmp_path / "cat.png", "--save", tmp_path / "cat.safetensors")
    assert told.code == 0, told.err
    assert "seed" not in told.err
    job_id = told.out.split()[0]
    assert (tmp_path / "cat.safetensors").stat().st_size > 100
    document = call("status", job_id, "--json").json
    assert (document["seeds"], [file["role"] for file in document["files"]]) == ([], ["latents"])
    shown = call("status", job_id).out
    assert "encode" in shown and "prompt" not in shown and "seeds" not in shown
    assert f"{job_id}" in call("list").out and "1/1" in call("list").out
    again = call("replay", job_id)
    assert again.code == 0, again.out + again.err
    assert "equal, byte for byte" in again.out and "SEED" not in again.out


@pytest.mark.parametrize("kept", [("latents",), ("image", "latents")])
def test_replay_of_latents(call: Call, darkroom: Installation, kept: tuple[str, ...]) -> None:
    outputs = [word for one in kept for word in ("--output", one)]
    job = call("submit", "a cat", "-n", "2", *outputs, "--wait", "--json").json
    told = call("replay", job["id"], "--json")
    assert (told.code, told.json["bit_equal"], told.json["differences"]) == (0, True, []), told.err
    assert (len(told.json["images"]), len(told.json["files"])) == (2 * ("image" in kept), 2)
    (darkroom.objects / job["files"][1]["key"]).unlink()
    spoilt = call("replay", job["id"], "--json")
    assert (spoilt.code, [one["equal"] for one in spoilt.json["files"]]) == (1, [True, False])
    assert [fault["field"] for fault in spoilt.json["faults"]] == ["files.latents.1.key"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--kind", "decode"], "image"),
        (["--kind", "decode", "--image", "gone.safetensors"], "input_missing"),
        (["--kind", "encode", "--image", "inputs/default/x.safetensors"], "input_not_an_image"),
        (["--kind", "decode", "--image", "inputs/default/x.png"], "no .safetensors"),
        (["a cat", "--output", "sketch"], "image"),
        (["a cat", "--output", "image", "--output", "image"], "twice"),
    ],
)
def test_what_is_refused_at_submit(call: Call, options: list[str], named: str) -> None:
    told = call("submit", *options, "--json")
    assert told.code == 2
    assert named in told.out
