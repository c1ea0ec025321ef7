"""Requests inside other models: there they are pydantic's own citizens, and in FastAPI a user's mistake is his."""

import inspect
import json
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, TypeAdapter, ValidationError, create_model

from darkroom.tasks import Extend, Hires, Img2Img, InvalidRequest, Refiner, Request, Txt2Img, parse_request
from darkroom.tasks.requests import KINDS

PICTURE = "inputs/default/cat.png"
BAD = {"prompt": "", "width": 513}


class Album(BaseModel):
    """A user's own model."""

    title: str
    pages: list[Request]


class Named(Txt2Img):
    """A user's own kind of request."""

    name: str


app = FastAPI()


@app.post("/txt2img")
def one_kind(request: Txt2Img) -> Txt2Img:
    return request


@app.post("/any")
def any_kind(request: Request) -> Request:
    return request


@app.post("/albums")
def nested(albums: list[Album]) -> list[Album]:
    return albums


@pytest.fixture(scope="module")
def browser() -> TestClient:
    return TestClient(app)


@pytest.mark.parametrize(
    "validate",
    [
        Txt2Img.model_validate,
        lambda data: Txt2Img.model_validate_json(json.dumps(data)),
        TypeAdapter(Txt2Img).validate_python,
        TypeAdapter(Request).validate_python,
        lambda data: TypeAdapter(list[Request]).validate_python([data]),
        lambda data: Album(title="a", pages=[data]),
        lambda data: Named.model_validate({"name": "n", **data}),
    ],
)
def test_where_pydantic_is_asked_it_raises_its_own_error(validate: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        validate(BAD)
    assert [error["loc"][-1] for error in caught.value.errors()] == ["prompt", "width"]


@pytest.mark.parametrize("make", [lambda data: Txt2Img(**data), parse_request, lambda data: Named(name="n", **data)])
def test_a_request_made_by_itself_raises_ours(make: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make(BAD)
    assert [fault.field for fault in caught.value.faults] == ["prompt", "width"]


PARTS = [(Hires, {"scale": 1}, "scale"), (Refiner, {"model": "x", "start": 2}, "start"), (Extend, {"left": -5}, "left")]


@pytest.mark.parametrize(("part", "bad", "field"), PARTS)
def test_a_part_of_a_request_is_as_the_request_is(part: Any, bad: dict[str, Any], field: str) -> None:
    """Made by itself it raises ours; where pydantic is asked, pydantic's own."""
    with pytest.raises(InvalidRequest) as ours:
        part(**bad)
    assert [fault.field for fault in ours.value.faults] == [field]
    holder = create_model("Holder", part=(part, ...))
    for validate in (part.model_validate, TypeAdapter(part).validate_python, lambda data: holder(part=data)):
        with pytest.raises(ValidationError) as theirs:
            validate(bad)
        assert theirs.value.errors()[0]["loc"][-1] == field


def test_a_part_of_a_request_is_at_fault_by_its_place_in_it() -> None:
    with pytest.raises(InvalidRequest) as caught:
        Txt2Img(prompt="a", hires={"scale": 1})
    assert [fault.field for fault in caught.value.faults] == ["hires.scale"]


def test_a_request_without_a_kind_is_txt2img_in_other_models_too() -> None:
    found = Album(title="a", pages=[{"prompt": "a"}, {"kind": "img2img", "prompt": "b", "image": PICTURE}])  # type: ignore[list-item]
    assert [type(page) for page in found.pages] == [Txt2Img, Img2Img]
    assert Album.model_validate_json(found.model_dump_json()) == found


def test_the_fields_are_in_the_signature() -> None:
    """Editors read it."""
    assert {"prompt", "width", "seeds"} <= inspect.signature(Txt2Img).parameters.keys()


@pytest.mark.parametrize("path", ["/txt2img", "/any"])
def test_a_mistake_in_a_body_is_the_users(browser: TestClient, path: str) -> None:
    answer = browser.post(path, json=BAD)
    assert answer.status_code == 422
    assert [error["loc"][-1] for error in answer.json()["detail"]] == ["prompt", "width"]


@pytest.mark.parametrize("body", [{}, [], "a", None, 5, {"kind": "animate"}, {"kind": "img2img", "prompt": "a"}])
@pytest.mark.parametrize("path", ["/txt2img", "/any"])
def test_any_other_body_is_refused(browser: TestClient, path: str, body: object) -> None:
    assert browser.post(path, json=body).status_code == 422


def test_a_body_that_is_right(browser: TestClient) -> None:
    answer = browser.post("/any", json={"kind": "img2img", "prompt": "a", "image": PICTURE})
    assert answer.status_code == 200
    assert parse_request(answer.json()) == Img2Img(prompt="a", image=PICTURE)
    assert browser.post("/any", json={"prompt": "a"}).json()["kind"] == "txt2img"


HOSTILE = [
    "NaN",
    '["\\ud800"]',
    '{"prompt": NaN}',
    '{"prompt": "a", "guidance_scale": NaN}',
    '{"prompt": "a", "guidance_scale": 1e999}',
    '{"prompt": "\\ud800"}',
    '{"prompt": "a", "\\ud800": 1}',
    '{"prompt": "a", "model": "\\udfff"}',
    '{"prompt": "a", "metadata": {"\\ud800": 1}}',
    '{"prompt": "a", "metadata": {"a": [NaN]}}',
    '{"prompt": "a", "start_by": NaN}',
    '{"prompt": "a", "kind": NaN}',
    '{"prompt": "a", "kind": "\\ud800"}',
    '{"prompt": "a", "kind": "img2img", "image": "https://\\ud800/"}',
    '{"prompt": "a", "seed": NaN, "{msg}": "{expected}"}',
]


@pytest.mark.parametrize("body", HOSTILE)
def test_what_json_cannot_carry_is_refused_all_the_same(browser: TestClient, body: str) -> None:
    """An answer that quotes it as it is would break on it."""
    for path, whole in (("/txt2img", body), ("/any", body), ("/albums", f'[{{"title": "a", "pages": [{body}]}}]')):
        assert browser.post(path, content=whole, headers={"content-type": "application/json"}).status_code == 422


def test_faults_of_what_json_cannot_carry_keep_their_words() -> None:
    with pytest.raises(ValidationError) as caught:
        Txt2Img.model_validate({"prompt": "a", "guidance_scale": float("nan"), "seeds": [1], "seed": 1, "width": 3})
    assert [(error["loc"], error["type"], error["msg"]) for error in caught.value.errors()] == [
        (("guidance_scale",), "finite_number", "Input should be a finite number"),
        (("width",), "multiple_of", "Input should be a multiple of 8"),
        (("seeds",), "value_error", "Value error, give seed or seeds, not both"),
    ]
    assert [error["input"] for error in caught.value.errors()] == ["nan", 3, [1]]


def test_faults_of_what_nobody_can_write() -> None:
    deep: Any = []
    for _ in range(20_000):
        deep = [deep]
    for metadata in ({"a": deep}, {"a": 10**5000, "b": float("nan")}, {("a",): float("inf")}):
        with pytest.raises(ValidationError):
            Txt2Img.model_validate({"prompt": "a", "metadata": metadata})


def test_faults_deep_in_a_body(browser: TestClient) -> None:
    pages = [{"prompt": "a"}, {"kind": "img2img", "prompt": "", "image": PICTURE}]
    answer = browser.post("/albums", json=[{"title": "a", "pages": pages}])
    assert answer.status_code == 422
    assert [error["loc"] for error in answer.json()["detail"]] == [["body", 0, "pages", 1, "img2img", "prompt"]]
    assert browser.post("/albums", json=[{"title": "a", "pages": pages[:1]}]).status_code == 200


def test_the_schema_tells_the_kinds_apart(browser: TestClient) -> None:
    schema = browser.get("/openapi.json").json()
    body = schema["paths"]["/any"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["discriminator"]["mapping"] == {
        kind: f"#/components/schemas/{request.__name__}" for kind, request in KINDS.items()
    }
    assert {"Txt2Img", "Img2Img", "Album"} <= schema["components"]["schemas"].keys()
    required = {name: one.get("required") for name, one in schema["components"]["schemas"].items()}
    assert (required["Img2Img"], required["Interpolate"]) == (["image"], ["prompt", "frames"])
