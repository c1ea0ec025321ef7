"""Second prompts, skipped layers, sizes and rescaled guidance, as requests."""

from typing import Any

import pytest

from darkroom.tasks.catalogue import ModelEntry
from darkroom.tasks.errors import InvalidRequest
from darkroom.tasks.models import Market
from darkroom.tasks.needs import lean, needs_of
from darkroom.tasks.requests import Txt2Img
from darkroom.tasks.validate import resolve
from tests.unit.tasks.test_validate import MODEL, PICTURE, of

SD = MODEL.model_copy(update={"family": "sd", "name": "old"})
FIELDS: dict[str, Any] = {
    "prompt_2": "the sea",
    "negative_prompt_2": "a dog",
    "clip_skip": 2,
    "guidance_rescale": 0.5,
    "original_size": [1024, 768],
    "crop": [0, 64],
    "target_size": [512, 384],
}


def codes(entry: ModelEntry, **fields: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as caught:
        resolve({"prompt": "a cat", "model": entry.name, **fields}, {entry.name: entry}, lambda: None)
    return [(fault.field, fault.code) for fault in caught.value.faults]


def test_each_is_a_need_and_stays_out_of_other_records() -> None:
    for name, value in FIELDS.items():
        filled = of(**{name: value}).filled
        assert needs_of(filled) == (name,)
        assert lean(filled)[name] == value
    assert not needs_of(of().filled)
    assert not FIELDS.keys() & lean(of().filled).keys()


def test_the_family_sd_has_no_second_encoder_and_no_sizes() -> None:
    fields = {name: value for name, value in FIELDS.items() if name not in ("clip_skip", "guidance_rescale")}
    assert sorted(codes(SD, **fields)) == sorted((name, "not_supported") for name in fields)
    assert codes(SD, kind="img2img", image=PICTURE, guidance_rescale=0.5) == [("guidance_rescale", "not_supported")]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"prompt_2": " "}, "invalid_value"),
        ({"negative_prompt_2": "\x01"}, "invalid_value"),
        ({"prompt_2": "x" * 1001}, "too_long"),
        ({"clip_skip": 0}, "greater_than_equal"),
        ({"clip_skip": 32}, "less_than_equal"),
        ({"clip_skip": 1.5}, "int_type"),
        ({"guidance_rescale": 1.01}, "less_than_equal"),
        ({"guidance_rescale": float("nan")}, "finite_number"),
        ({"original_size": [0, 64]}, "greater_than_equal"),
        ({"original_size": [64]}, "too_short"),
        ({"target_size": [64, 64, 64]}, "too_long"),
        ({"crop": ["0", 0]}, "int_type"),
        ({"long_prompt": "fold"}, "literal_error"),
        ({"crop": [-1, 0]}, "greater_than_equal"),
    ],
)
def test_what_cannot_be_is_named(fields: dict[str, Any], code: str) -> None:
    (name,) = fields
    assert [(field.split(".")[0], found) for field, found in codes(MODEL, **fields)] == [(name, code)]


@pytest.mark.parametrize(
    ("fields", "warnings"),
    [
        ({"guidance_rescale": 0.5, "guidance_scale": 1.0}, ["guidance_rescale_ignored"]),
        ({"guidance_rescale": 0.5}, []),
        ({"negative_prompt_2": "a dog", "guidance_scale": 1.0}, ["negative_prompt_ignored"]),
        ({"prompt_2": "fox " * 76}, []),
        ({"prompt_2": "fox " * 76, "long_prompt": "cut"}, ["prompt_truncated"]),
        ({"negative_prompt_2": "fox " * 76, "guidance_scale": 1.0}, ["negative_prompt_ignored"]),
    ],
)
def test_what_may_not_be_meant_is_told_of(fields: dict[str, Any], warnings: list[str]) -> None:
    found = of(**fields)
    assert list(found.filled.warnings(found.offer)) == warnings


def test_texts_are_told_by_their_fields() -> None:
    request = Txt2Img(prompt="a cat", prompt_2="the sea", negative_prompt="")
    assert request.texts == {"prompt": "a cat", "negative_prompt": "", "prompt_2": "the sea"}


FITS, OVER = "x" * 75, "x" * 76


@pytest.mark.parametrize(
    ("fields", "long"),
    [
        ({"prompt": FITS}, "cut"),
        ({"prompt": "the sea " * 12}, "cut"),
        ({"prompt": OVER}, "chunk"),
        ({"prompt": OVER, "long_prompt": "cut"}, "cut"),
        ({"prompt": FITS, "long_prompt": "chunk"}, "chunk"),
        ({"negative_prompt": OVER}, "chunk"),
        ({"negative_prompt": OVER, "guidance_scale": 1.0}, "cut"),
        ({"prompt_2": OVER}, "chunk"),
    ],
)
def test_chunks_are_filled_in_where_a_text_may_not_fit(fields: dict[str, Any], long: str) -> None:
    asked = {"prompt": "a cat", **fields}
    assert of(**asked).filled.long_prompt == of(**of(**asked).filled.model_dump()).filled.long_prompt == long
    assert resolve(Txt2Img(model="small", **asked), {"small": MODEL}, lambda: None).filled.long_prompt == long
    assert ("long_prompt" in needs_of(of(**asked).filled)) == (long == "chunk")


def long_with(*workers: set[str], **fields: Any) -> str:
    """What becomes of a long prompt where these workers are there, each with what it has."""
    market = Market({"small": MODEL}, {"small": len(workers)}, abilities={"small": workers})
    asked = {"model": "small", "prompt": OVER, **fields}
    return resolve(asked, market.offers, lambda: None, market.can).filled.long_prompt


def test_where_all_workers_that_are_there_are_older_the_text_is_cut_as_before() -> None:
    old, new = set[str](), {"long_prompt", "clip_skip"}
    assert (long_with(old), long_with(old, new), long_with(new), long_with()) == ("cut", "chunk", "chunk", "chunk")
    assert long_with(old, long_prompt="chunk") == "chunk"  # it waits
    assert (long_with({"clip_skip"}, clip_skip=1), long_with(new, clip_skip=1)) == ("cut", "chunk")
    assert long_with(old, clip_skip=1) == "chunk"  # cutting would not help


KEY = "0/embeddings-0-0000000000000000.safetensors"


def embedding(**fields: Any) -> Any:
    asked = {"model": "small", "prompt_embeds": KEY, **fields}
    return resolve(asked, {"small": MODEL}, lambda: None).filled


def test_embeddings_stand_for_the_texts() -> None:
    filled = embedding()
    assert (filled.prompt, filled.long_prompt, filled.references) == (None, "cut", {"prompt_embeds": KEY})
    assert (needs_of(filled), filled.title) == (("prompt_embeds",), KEY)
    named = embedding(prompt="x" * 100)  # for people
    assert (named.prompt, named.long_prompt, named.title) == ("x" * 100, "cut", "x" * 100)
    both = embedding(kind="img2img", image=PICTURE)
    assert both.references == {"image": PICTURE, "prompt_embeds": KEY}


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"prompt_embeds": None}, "prompt", "missing"),
        ({"negative_prompt": "a dog"}, "negative_prompt", "not_supported"),
        ({"prompt_2": "a dog"}, "prompt_2", "not_supported"),
        ({"clip_skip": 1}, "clip_skip", "not_supported"),
        ({"prompt_syntax": "compel"}, "prompt_syntax", "not_supported"),
        ({"long_prompt": "chunk"}, "long_prompt", "not_supported"),
        ({"prompt_embeds": "0/latents-0-0000000000000000.safetensors"}, "prompt_embeds", "input_not_embeddings"),
        ({"prompt_embeds": "0/0-0000000000000000.png"}, "prompt_embeds", "input_reference_invalid"),
        ({"prompt_embeds": "https://example.com/a.safetensors"}, "prompt_embeds", "input_reference_invalid"),
        ({"prompt_embeds": "inputs/alice/a.safetensors"}, "prompt_embeds", "input_forbidden"),
        ({"kind": "img2img", "image": KEY}, "image", "input_not_latents"),
    ],
)
def test_what_does_not_go_with_embeddings_is_named(fields: dict[str, Any], field: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        embedding(**fields)
    assert [(fault.field, fault.code) for fault in caught.value.faults] == [(field, code)]
