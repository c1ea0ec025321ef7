"""`darkroom batch check`: a file of requests before it is sent."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from tests.acceptance.conftest import MODEL, Call, Installation


def write(path: Path, lines: Iterable[Any]) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def stars(count: int) -> list[dict[str, Any]]:
    each = {"prompt": "a star", "num_inference_steps": 2}
    return [{"custom_id": f"star-{n}", "seed": n, **each} for n in range(count)]


def test_bad_lines_are_named_and_nothing_is_sent(call: Call, darkroom: Installation, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "in.png")
    picture = str(tmp_path / "in.png")
    two, none = {"prompt": "x", "image": picture, "num_images": 2}, {"prompt": "x", "image": "nowhere.png"}
    unknown = {"custom_id": "u", "prompt": "x", "model": "nope"}
    file = write(tmp_path / "in.jsonl", [*stars(2), "{", two, none, unknown])
    told = call("batch", "check", file, "--tenant", "rehearsal", "--json")
    assert told.code == 2
    *bad, whole = told.lines
    faults = [(one["line"], one["error"]["faults"][0]["code"]) for one in bad]
    assert faults[:2] == [(3, "not_json"), (5, "input_missing")]
    assert (bad[2]["line"], bad[2]["custom_id"], bad[2]["error"]["faults"][0]["field"]) == (6, "u", "model")
    assert (whole["lines"], whole["refused"], whole["requests"], whole["pieces"]) == (6, 3, 3, 4)
    assert call("list", "--tenant", "rehearsal", "--json").lines == []
    assert not (darkroom.objects / "inputs" / "rehearsal").exists()
    words = call("batch", "check", file)
    assert "line 3: request: is no JSON object" in words.err
    assert words.out.startswith("6 lines, 3 would be refused; 4 pictures\n")


def test_what_a_table_costs_by_its_steps_and_defaults(call: Call, darkroom: Installation, tmp_path: Path) -> None:
    """Twice the steps cost about twice as much; how long that takes is known once a job has ended."""
    file = tmp_path / "in.csv"
    file.write_text("prompt,seed\na star,1\na moon,2\n")
    assert call("submit", "a cat", "--model", MODEL, "--wait").code == 0
    costs, seconds = [], []
    for steps in (4, 8):
        told = call("batch", "check", file, "--steps", str(steps), "--model", MODEL, "--json")
        assert (told.code, told.json["lines"], told.json["pieces"]) == (0, 2, 2)
        costs.append(told.json["cost"][MODEL])
        seconds.append(told.json["seconds"])
    assert 1.5 * costs[0] < costs[1] <= 2 * costs[0]
    assert 0 < seconds[0] < seconds[1]


def test_ids_that_are_there_twice(call: Call, tmp_path: Path) -> None:
    told = call("batch", "check", write(tmp_path / "in.jsonl", [*stars(2), *stars(1)]), "--json")
    assert (told.code, told.error["code"]) == (2, "batch_file_invalid")
    assert "'star-0' in lines 1, 3" in told.error["message"]


def test_a_file_that_is_not_there(call: Call, tmp_path: Path) -> None:
    told = call("batch", "check", tmp_path / "none.csv", "--json")
    assert (told.code, told.error["code"]) == (1, "file_error")
