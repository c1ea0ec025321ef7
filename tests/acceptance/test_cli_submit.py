"""`darkroom submit`: one job, and a file of them."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.acceptance.conftest import MODEL, Call, Installation


def test_wait_and_save(darkroom: Installation, tmp_path: Path) -> None:
    told = darkroom.command("submit", "a lighthouse at dusk", "--seed", "7", "--wait", "--save", tmp_path / "out.png")
    job_id, line = told.out.splitlines()
    assert told.code == 0
    assert len(job_id) == 36
    assert line == f"{tmp_path / 'out.png'}  64x64  seed 7"
    assert "succeeded" in told.err
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (64, 64)
        assert "lighthouse" in image.info["parameters"]


def test_without_wait_the_id_is_all_of_standard_output(darkroom: Installation) -> None:
    told = darkroom.command("submit", "a cat", "--model", MODEL)
    assert told.code == 0
    assert len(told.out.strip()) == 36


def test_every_field_arrives(call: Call, darkroom: Installation) -> None:
    told = call(
        "submit", "a cat", "--model", MODEL, "--negative", "", "--width", 96, "--height", 72, "--steps", 5,
        "--guidance", 3, "--scheduler", "DPM++ 2M Karras", "--seed", 3, "--seed", 1, "--num-images", 2,
        "--format", "webp", "--batching", "solo", "--lane", "bulk", "--tenant", "alice",
        "--metadata", '{"channel": "#art"}', "--wait", "--json",
    )  # fmt: skip
    request = told.json["request"]
    assert told.code == 0
    assert {name: request[name] for name in ("negative_prompt", "width", "height", "seeds", "scheduler")} == {
        "negative_prompt": "",
        "width": 96,
        "height": 72,
        "seeds": [3, 1],
        "scheduler": "dpmpp_2m_karras",
    }
    assert (request["num_inference_steps"], request["guidance_scale"], request["output_format"]) == (5, 3, "webp")
    assert (request["lane"], request["tenant"], request["metadata"]) == ("bulk", "alice", {"channel": "#art"})
    assert request["batching"] == "solo"
    assert [image["content_type"] for image in told.json["images"]] == ["image/webp"] * 2


def test_json_of_a_submit(call: Call, darkroom: Installation) -> None:
    told = call("submit", "a cat", "--seed", "5", "-n", "2", "--json")
    assert {**told.json, "id": "?"} == {
        "id": "?",
        "seeds": [5, 6],
        "model": MODEL,
        "warnings": [],
        "repeated": False,
    }


def test_a_local_picture_is_uploaded_and_makes_it_img2img(call: Call, darkroom: Installation, tmp_path: Path) -> None:
    Image.new("RGB", (80, 64), "teal").save(tmp_path / "in.png")
    told = call("submit", "a cat", "--image", tmp_path / "in.png", "--strength", "0.5", "--wait", "--json")
    assert told.code == 0
    assert told.json["kind"] == "img2img"
    assert told.json["request"]["image"].startswith("inputs/default/")
    assert (told.json["images"][0]["width"], told.json["images"][0]["height"]) == (80, 64)
    again = call("submit", "a cat", "--image", told.json["images"][0]["key"], "--wait", "--json")
    assert again.code == 0


@pytest.mark.parametrize(
    ("save", "options", "names"),
    [
        ("out.png", ["-n", "2"], ["out-0.png", "out-1.png"]),
        ("new/sub/out.jpg", [], ["new/sub/out.jpg"]),
        ("folder/", ["--seed", "1"], None),
    ],
)
def test_where_results_are_saved(
    call: Call, darkroom: Installation, tmp_path: Path, save: str, options: list[str], names: list[str] | None
) -> None:
    told = call("submit", "a cat", *options, "--save", f"{tmp_path}/{save}", "--json")
    saved = [Path(path) for path in told.json["saved"]]
    assert told.code == 0
    assert [str(path.relative_to(tmp_path)) for path in saved] == (names or [f"folder/{saved[0].name}"])
    assert [magic(path) for path in saved] == [b"\xff\xd8" if path.suffix == ".jpg" else b"\x89P" for path in saved]


def magic(path: Path) -> bytes:
    return path.read_bytes()[:2]


@pytest.mark.parametrize(
    ("save", "options", "named"),
    [
        ("out.gif", [], "no result ends so"),
        ("out.png", ["--format", "webp"], "is a png, --format asks for webp"),
        ("nosuch", [], "no such folder"),
        ("out.safetensors", [], "the job makes pictures"),
        ("out.png", ["--kind", "embed"], "the job makes no pictures"),
    ],
)
def test_what_cannot_be_saved_so_is_not_submitted(
    call: Call, darkroom: Installation, tmp_path: Path, save: str, options: list[str], named: str
) -> None:
    told = call("submit", "a cat", "--tenant", "saver", "--save", tmp_path / save, *options, "--json")
    assert (told.code, told.error["code"]) == (2, "usage")
    assert named in told.error["message"]
    assert call("list", "--tenant", "saver", "--json").lines == []
    assert list(tmp_path.iterdir()) == []


def test_an_empty_place_to_save_to_is_refused(call: Call) -> None:
    told = call("submit", "a cat", "--tenant", "saver", "--save", "", "--json")
    assert (told.code, told.error["code"]) == (2, "usage")
    assert call("list", "--tenant", "saver", "--json").lines == []


def test_all_faults_at_once_by_option(call: Call, darkroom: Installation) -> None:
    told = call("submit", "a\x07cat", "--model", MODEL, "--width", "wide", "--steps", "0", "--guidance", "nan",
                "--seed", "-1", "--format", "gif", "--metadata", "{", "--strength", "2")  # fmt: skip
    assert told.code == 2
    assert told.out == ""
    for option in ("PROMPT", "--width", "--steps", "--guidance", "--seed", "--format", "--metadata", "--strength"):
        assert f"  {option}: " in told.err
    assert "--image: is missing" in told.err
    assert "Traceback" not in told.err


def test_faults_as_json_have_the_requests_fields(call: Call, darkroom: Installation) -> None:
    told = call("submit", "a cat", "--model", MODEL, "--width", "100", "--steps", "999", "--json")
    assert (told.code, told.error["code"]) == (2, "invalid_request")
    assert [fault["field"] for fault in told.error["faults"]][:1] == ["width"]


def test_unknown_model_names_those_that_there_are(call: Call, darkroom: Installation) -> None:
    told = call("submit", "a cat", "--model", "nope", "--json")
    assert told.code == 2
    assert MODEL in told.error["faults"][0]["message"]


def test_a_known_model_that_nobody_serves_is_accepted_with_a_note(call: Call, darkroom: Installation) -> None:
    told = call("submit", "a cat", "--model", "sdxl", "--timeout", "0.1")
    assert told.code == 9
    assert "no worker serves sdxl now" in told.err
    assert f"it goes on: darkroom watch {told.out.strip()}" in told.err


def test_a_job_that_fails(call: Call, darkroom: Installation) -> None:
    key = f"inputs/default/{'0' * 64}.png"
    told = call("submit", "a cat", "--image", key, "--wait")
    assert told.code == 8
    assert "failed" in told.err
    as_json = call("submit", "a cat", "--image", key, "--wait", "--json")
    assert (as_json.code, as_json.json["state"], as_json.json["error"]["code"]) == (8, "failed", "input_missing")


@pytest.mark.parametrize("image", ["missing.png", "./missing", "tests"])
def test_an_input_file_that_is_not_there(call: Call, darkroom: Installation, image: str) -> None:
    told = call("submit", "a cat", "--image", image, "--json")
    assert told.code == 2
    assert told.error["faults"][0]["code"] == "input_missing"


def test_an_input_file_that_is_no_picture(call: Call, darkroom: Installation, tmp_path: Path) -> None:
    (tmp_path / "in.png").write_text("<html>")
    told = call("submit", "a cat", "--image", tmp_path / "in.png", "--json")
    assert (told.code, told.error["faults"][0]["code"]) == (2, "input_not_an_image")


def test_an_idempotency_key_makes_one_job(call: Call, darkroom: Installation) -> None:
    first, again = (call("submit", "a cat", "--idempotency-key", "k1", "--json").json for _ in range(2))
    assert (first["id"], first["seeds"], again["repeated"]) == (again["id"], again["seeds"], True)
    other = call("submit", "a dog", "--idempotency-key", "k1", "--json")
    assert (other.code, other.error["code"]) == (2, "idempotency_conflict")


@pytest.mark.parametrize(
    "arguments",
    [["submit"], ["submit", "a", "--nope"], ["submit", "a", "--from-file", "x"], ["submit", "-", "--wait"], ["nope"]],
)
def test_bad_usage(call: Call, arguments: list[str]) -> None:
    told = call(*arguments, "--json")
    assert (told.code, told.error["code"]) == (2, "usage")
    assert told.error["hint"]


LINES = [
    json.dumps({"prompt": "one"}),
    "",
    "no json",
    json.dumps({"prompt": "two", "width": 13, "num_inference_steps": 0}),
    json.dumps(["a list"]),
    json.dumps({"prompt": "three", "model": "nope"}),
    json.dumps({"prompt": "four", "tenant": "bob"}),
]


def test_a_file_of_requests(call: Call, darkroom: Installation, tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_text("\n".join(LINES))
    told = call("submit", "--from-file", tmp_path / "jobs.jsonl", "--model", MODEL, "--tenant", "carol")
    ids = told.out.split()
    assert told.code == 2
    assert len(ids) == 2
    assert "2 submitted, 4 refused" in told.err
    for words in ("line 3: request: is no JSON", "line 4: width: ", "line 4: ", "line 5: ", "line 6: model: "):
        assert words in told.err
    assert [call("status", job_id, "--json").json["tenant"] for job_id in ids] == ["carol", "bob"]


def test_requests_from_standard_input_as_json_lines(darkroom: Installation) -> None:
    told = darkroom.command("submit", "-", "--model", MODEL, "--json", text="\n".join(LINES))
    by_line = {line["line"]: line for line in told.lines}
    assert told.code == 2
    assert sorted(by_line) == [1, 3, 4, 5, 6, 7]
    assert {number for number, line in by_line.items() if "id" in line} == {1, 7}
    faults = [fault["field"] for fault in by_line[4]["error"]["faults"]]
    assert faults == ["width", "num_inference_steps"]


def test_a_file_that_is_not_there(call: Call) -> None:
    told = call("submit", "--from-file", "nowhere.jsonl")
    assert told.code == 1
    assert "nowhere.jsonl: No such file" in told.err
