"""From options and lines to requests."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from darkroom.cli import requests
from darkroom.cli.fields import given_fields
from darkroom.cli.pictures import with_upload
from darkroom.cli.requests import read_lines, with_kind
from darkroom.cli.screen import described
from darkroom.storage import StorageSettings, open_store
from darkroom.tasks import Darkroom, InvalidRequest, parse_request


def test_only_what_was_given_becomes_a_field() -> None:
    assert given_fields({"prompt": "a cat", "width": None, "seed": [], "as_json": True}) == {"prompt": "a cat"}


@pytest.mark.parametrize(
    ("option", "given", "value"),
    [
        ("width", "512", 512),
        ("width", "512.5", 512.5),
        ("width", "wide", "wide"),
        ("guidance_scale", "3", 3.0),
        ("strength", "much", "much"),
        ("metadata", '{"a": [1]}', {"a": [1]}),
        ("metadata", "{", "{"),
        ("negative_prompt", "", ""),
        ("original_size", "1024x768", [1024, 768]),
        ("crop", "0,64", [0, 64]),
        ("target_size", "1024", [1024]),
        ("target_size", "a x4", ["a ", 4]),
        ("extend", "left=64, right=8", {"left": 64, "right": 8}),
        ("extend", '{"left": 64}', {"left": 64}),
        ("extend", "left=wide,front=1", {"left": "wide", "front": "1"}),
        ("extend", "left", "left"),
        ("work_size", "1024x768", [1024, 768]),
        ("preserve_unmasked", True, False),
    ],
)
def test_values_that_are_none_are_passed_on(option: str, given: Any, value: Any) -> None:
    assert given_fields({option: given}) == {option: value}


def test_one_seed_counts_up_and_several_are_one_per_image() -> None:
    assert given_fields({"seed": ["7"]}) == {"seed": 7}
    assert given_fields({"seed": ["7", "1"]}) == {"seeds": [7, 1]}


def test_not_a_number_is_named_with_the_other_faults() -> None:
    fields = given_fields({"prompt": "", "width": "wide", "guidance_scale": "nan", "seed": ["x", "2"]})
    with pytest.raises(InvalidRequest) as caught:
        parse_request(with_kind(fields))
    assert [fault.field for fault in caught.value.faults] == ["prompt", "guidance_scale", "width", "seeds.0"]


def test_words_for_what_is_mistaken_at_a_terminal() -> None:
    """Each message says what would be right."""
    fields = given_fields({"prompt": "a", "metadata": "{bad", "start_by": "tomorrow", "image": "file:///x.png"})
    with pytest.raises(InvalidRequest) as caught:
        parse_request(with_kind(fields))
    image, metadata, start_by = sorted(described(fault) for fault in caught.value.faults)
    assert start_by.startswith("--start-by: is no time with a zone: write ISO 8601")
    assert start_by.endswith(", or +SECONDS from now")
    assert metadata == '--metadata: is not a JSON object, such as {"channel": "art"}'
    assert image.startswith("--image: is a file: URL")


def test_a_file_is_no_fault_of_a_request_that_has_others() -> None:
    """It would have been uploaded."""
    fields = with_kind(given_fields({"prompt": "", "image": "sketch.png"}))
    with Darkroom() as client, pytest.raises(InvalidRequest) as caught:
        parse_request(with_upload(fields, client))
    assert [fault.field for fault in caught.value.faults] == ["prompt"]


def test_of_several_files_the_one_that_is_no_picture_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("<html>")
    fields = {"kind": "inpaint", "prompt": "a", "image": str(tmp_path / "a.png"), "mask": str(tmp_path / "b.png")}
    store = open_store(StorageSettings(storage_url=(tmp_path / "store").as_uri()))
    with Darkroom(storage=store) as client:
        with pytest.raises(InvalidRequest) as caught:
            with_upload(fields, client)
        assert [(fault.field, fault.code) for fault in caught.value.faults] == [("mask", "input_not_an_image")]
        uploaded = with_upload({**fields, "mask": str(tmp_path / "a.png")}, client)
    assert uploaded["image"] == uploaded["mask"] and str(uploaded["mask"]).startswith("inputs/default/")


def test_every_file_that_cannot_be_used_is_named_as_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("<html>")
    (tmp_path / "b.py").write_text("import this")
    store = open_store(StorageSettings(storage_url=(tmp_path / "store").as_uri()))
    picture, script = str(tmp_path / "a.png"), str(tmp_path / "b.py")
    wishes = [
        {"kind": "inpaint", "prompt": "a", "image": picture, "mask": script},
        {"kind": "inpaint", "prompt": "a", "image": "nowhere.png", "mask": "nowhere.png"},
        {"kind": "decode", "image": script},
        {"kind": "txt2img", "prompt_embeds": script},
    ]
    found = []
    with Darkroom(storage=store) as client:
        for wish in wishes:
            with pytest.raises(InvalidRequest) as caught:
                with_upload(wish, client)
            found.append([(fault.field, fault.code) for fault in caught.value.faults])
            assert script in str(caught.value) or "mask" in wish
            assert "0/0-" not in str(caught.value)
    assert found == [
        [("image", "input_not_an_image"), ("mask", "input_not_an_image")],
        [("image", "input_missing"), ("mask", "input_missing")],
        [("image", "input_reference_invalid")],
        [("prompt_embeds", "input_reference_invalid")],
    ]


def test_kind_follows_from_what_only_img2img_has() -> None:
    assert with_kind({"prompt": "a"})["kind"] == "txt2img"
    assert with_kind({"image": "k"})["kind"] == with_kind({"strength": 0.5})["kind"] == "img2img"
    assert with_kind({"kind": "inpaint", "image": "k"})["kind"] == "inpaint"


def test_kind_follows_from_what_only_inpainting_has() -> None:
    for only in ({"mask": "k"}, {"extend": {"left": 8}}, {"padding": 8}):
        assert with_kind({"image": "k", **only})["kind"] == with_kind(only)["kind"] == "inpaint"


def test_a_part_of_a_field_is_named_with_its_option() -> None:
    fields = given_fields({"prompt": "a", "image": "k.png", "extend": "left=wide", "mask": "file:///x.png"})
    with pytest.raises(InvalidRequest) as caught:
        parse_request(with_kind({**fields, "image": "inputs/default/k.png"}))
    extend, mask = sorted(described(fault) for fault in caught.value.faults)
    assert extend == "--extend: left: input should be a valid integer"
    assert mask.startswith("--mask: is a file: URL")


def read(text: bytes, **defaults: Any) -> list[Any]:
    return list(read_lines(io.BytesIO(text), defaults))


def test_lines_win_over_the_defaults() -> None:
    found = read(b'{"prompt": "a"}\n\n{"prompt": "b", "tenant": "bob"}', tenant="alice")
    assert [(number, fields["tenant"]) for number, fields in found] == [(1, "alice"), (3, "bob")]


@pytest.mark.parametrize("line", [b"{", b"[1]", b"1", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_line_that_is_no_request_is_a_fault_of_its_own(line: bytes) -> None:
    found = read(line + b'\n{"prompt": "a"}\n')
    assert isinstance(found[0][1], InvalidRequest)
    assert found[1] == (2, {"kind": "txt2img", "prompt": "a"})


def test_a_line_without_end_is_refused_in_flat_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_LINE", 64)
    long = json.dumps({"prompt": "a" * 1000}).encode()
    found = read(long + b'\n{"prompt": "b"}\n' + long)
    assert [(number, isinstance(fields, InvalidRequest)) for number, fields in found] == [
        (1, True),
        (2, False),
        (3, True),
    ]


def test_a_line_with_a_field_twice_names_it() -> None:
    ((_, found),) = read(b'{"prompt": "a", "hires": {"scale": 1.5, "scale": 2}}')
    assert [str(fault) for fault in found.faults] == ["request: is no JSON object: 'scale' is there twice"]
