"""LoRAs in requests: what is asked, what is filled in, and what is refused."""

import json
from typing import Any

import pytest

from darkroom.tasks import Embed, InvalidRequest, Lora, Market, Txt2Img
from darkroom.tasks.adapters import LoraOffer, LoraUse
from darkroom.tasks.catalogue import ModelOffer, builtin_catalogue
from darkroom.tasks.errors import Fault
from darkroom.tasks.needs import lean, needs_of
from darkroom.tasks.requests import KINDS, Request, parse_request
from darkroom.tasks.validate import check_kept, resolve

PEN, INK, WIDE = "a" * 64, "b" * 64, "c" * 64
LORAS = [
    LoraOffer(name="pen", sha256=PEN, rank=16),
    LoraOffer(name="ink", sha256=INK, rank=40, text=True),
    LoraOffer(name="wide", sha256=WIDE, rank=100),
]
SDXL = builtin_catalogue()["sdxl"].offer().model_copy(update={"loras": LORAS})
QUICK = SDXL.model_copy(
    update={
        "name": "quick",
        "base": "sdxl",
        "own_loras": [LoraUse(name="spark")],
        "loras": [*LORAS, LoraOffer(name="spark", sha256="d" * 64, rank=64)],
    }
)
SD = (
    builtin_catalogue()["sd-1.5"]
    .offer()
    .model_copy(update={"loras": [LoraOffer(name="brush", sha256="e" * 64, rank=8)]})
)
CATALOGUE: dict[str, ModelOffer] = {offer.name: offer for offer in (SDXL, QUICK, SD)}
EMBEDDINGS = "0198c5c0-7b1f-7d6e-8a45-2f4d3c6b7a89/embeddings-0-1f2e3d4c5b6a7988.safetensors"


def filled(*loras: Any, **fields: Any) -> Request:
    return resolve({"prompt": "a", "model": "sdxl", "loras": list(loras), **fields}, CATALOGUE, lambda: None).filled


def faults(*loras: Any, **fields: Any) -> list[tuple[str, str]]:
    return [(fault.field, fault.code) for fault in whole_faults(*loras, **fields)]


def whole_faults(*loras: Any, **fields: Any) -> list[Fault]:
    with pytest.raises(InvalidRequest) as caught:
        filled(*loras, **fields)
    return caught.value.faults


def given(request: Request) -> list[tuple[str, float, str | None]]:
    return [(lora.name, lora.scale, lora.sha256) for lora in getattr(request, "loras", [])]


def test_each_lora_is_filled_in_with_its_file() -> None:
    found = filled("pen", Lora(name="ink", scale=-0.5, sha256=INK))
    assert given(found) == [("pen", 1.0, PEN), ("ink", -0.5, INK)]
    assert resolve(found, CATALOGUE, lambda: None).filled == found
    assert parse_request(json.loads(json.dumps(lean(found)))) == found
    check_kept(found, SDXL, CATALOGUE)


@pytest.mark.parametrize("written", ["pen:0.5", ["pen:0.5"], ("pen:.5",), Lora(name="pen", scale=0.5), ["pen:5e-1"]])
def test_a_lora_may_be_written_in_short(written: Any) -> None:
    assert given(Txt2Img(prompt="a", loras=written)) == [("pen", 0.5, None)]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("pen:abc", "is 'abc', where a number from -10 to 10 belongs"),
        ("pen:", "is '', where a number from -10 to 10 belongs"),
        ("pen:nan", "is 'nan', where a number from -10 to 10 belongs"),
        ("pen:0,5", "is '0,5', where a number from -10 to 10 belongs; decimals have a point, as in 0.5"),
        ("Pen", "has capital letters, and names have small ones (did you mean pen?)"),
        ("my pen", "is no name: at most 64 small letters, digits and . _ - make one, which begins with a letter or a "
                   "digit"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_quoted_with_what_may_stand_there(written: str, said: str) -> None:
    assert [fault.message for fault in whole_faults(written)] == [said]


def test_of_a_model_of_which_no_worker_was_up_no_loras_are_known() -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve({"prompt": "a", "model": "sdxl", "loras": ["lcm-sdxl"]}, builtin_catalogue(), lambda: None)
    said = (
        "no worker of sdxl has been up yet, so nobody knows which LoRAs it has; on a worker's machine `darkroom loras "
        "pull lcm-sdxl` fetches it"
    )
    assert caught.value.faults == [Fault("loras.0.name", "unknown_lora", said)]
    (fault,) = whole_faults("lcm-sdxl")
    assert fault.message.startswith("the workers of sdxl have no LoRA 'lcm-sdxl'; there are: ink, pen, wide")


def test_in_json_a_lora_is_an_object() -> None:
    asked = {"kind": "txt2img", "prompt": "a", "loras": [{"name": "pen", "scale": 1}]}
    assert given(Txt2Img.model_validate_json(json.dumps(asked))) == [("pen", 1.0, None)]
    with pytest.raises(ValueError, match="loras"):
        Txt2Img.model_validate_json(json.dumps({**asked, "loras": ["pen"]}))


def test_loras_are_a_need_and_none_of_them_are_none() -> None:
    assert needs_of(filled("pen")) == ("loras",)
    plain = filled()
    assert needs_of(plain) == ()
    assert "loras" not in lean(plain)


def test_every_kind_with_words_has_them() -> None:
    having = {name for name, kind in KINDS.items() if "loras" in kind.model_fields}
    assert having == {name for name, kind in KINDS.items() if "prompt" in kind.model_fields}


@pytest.mark.parametrize(
    ("loras", "found"),
    [
        (["../pen"], [("loras.0.name", "not_a_name")]),
        (["pen.safetensors"], [("loras.0.name", "not_a_name")]),
        (["C:\\loras\\pen:1"], [("loras.0.name", "not_a_name")]),
        (["pen", "PEN"], [("loras.1.name", "string_pattern_mismatch")]),
        ([":1"], [("loras.0.name", "string_pattern_mismatch")]),
        ([{"name": "pen", "scale": float("nan")}], [("loras.0.scale", "finite_number")]),
        (["pen:nan"], [("loras.0.scale", "float_type")]),
        (["pen:"], [("loras.0.scale", "float_type")]),
        (["pen:1.2.3"], [("loras.0.scale", "float_type")]),
        (["pen:1e9", "ink:-1e9"], [("loras.0.scale", "less_than_equal"), ("loras.1.scale", "greater_than_equal")]),
        ([{"name": "pen", "scale": "1"}], [("loras.0.scale", "float_type")]),
        ([{"name": "pen", "sha256": "A" * 64}], [("loras.0.sha256", "string_pattern_mismatch")]),
        ([{"name": "pen", "weight": 1}], [("loras.0.weight", "extra_forbidden")]),
        ([f"pen-{n}" for n in range(9)], [("loras", "too_long")]),
        (["pen", "ink", "pen:0.5"], [("loras.2.name", "lora_twice")]),
        ([7], [("loras.0", "model_type")]),
    ],
)
def test_faults_of_form_are_named_at_their_fields(loras: list[Any], found: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Txt2Img(prompt="a", loras=loras)
    assert [(fault.field, fault.code) for fault in caught.value.faults] == found


def test_a_lora_that_nobody_has_is_told_with_the_near_one() -> None:
    (fault,) = whole_faults("penn")
    assert (fault.field, fault.code) == ("loras.0.name", "unknown_lora")
    assert fault.message == "the workers of sdxl have no LoRA 'penn' (did you mean pen?); there are: ink, pen, wide"
    (fault,) = whole_faults("lcm-sdxl")
    assert "`darkroom loras pull lcm-sdxl`" in fault.message


def test_a_lora_of_another_model_is_told_with_the_family_that_it_is_for() -> None:
    (fault,) = whole_faults("brush")
    assert (fault.field, fault.code) == ("loras.0.name", "lora_not_for_model")
    assert fault.message == "is on offer for sd-1.5, of the family sd; sdxl is of sdxl"
    (fault,) = whole_faults("lcm-sd-1.5")  # nobody has it, and the catalogue knows it
    assert (fault.code, fault.message) == ("lora_not_for_model", "is for the family sd, and sdxl is of sdxl")
    (fault,) = whole_faults("spark")
    assert fault.message == "is on offer for quick, not for sdxl"


def test_all_faults_are_named_at_once() -> None:
    asked = ["pen", "nope", {"name": "ink", "sha256": PEN}, "brush"]
    assert set(faults(*asked, num_inference_steps=900)) == {
        ("loras.1.name", "unknown_lora"),
        ("loras.2.sha256", "adapter_missing"),
        ("loras.3.name", "lora_not_for_model"),
        ("num_inference_steps", "too_large"),
    }


def test_ranks_add_up_with_those_of_the_models_own() -> None:
    assert given(filled("wide", "pen"))
    (fault,) = whole_faults("wide", "ink")
    assert (fault.field, fault.code) == ("loras", "lora_rank_too_large")
    assert "their ranks, in steps of 8, are 144 together (wide 100, ink 40); sdxl takes at most 128" in fault.message
    assert given(filled("ink", model="quick"))
    (fault,) = whole_faults("wide", model="quick")
    assert "168 together (spark 64, wide 100)" in fault.message


def test_what_a_model_has_of_its_own_is_on_already() -> None:
    assert faults("spark", model="quick") == [("loras.0.name", "lora_twice")]
    assert given(filled(model="quick")) == []


def test_what_a_worker_lacks_is_no_fault_of_the_request() -> None:
    found = filled("pen")
    moved = SDXL.model_copy(update={"loras": [LoraOffer(name="pen", sha256=INK, rank=16)]})
    for offer in (moved, SDXL.model_copy(update={"loras": []})):
        for others in ({}, {"other": SDXL.model_copy(update={"name": "other"})}):
            check_kept(found, offer, {"sdxl": offer, **others})


def test_a_record_whose_loras_have_no_files_was_not_resolved() -> None:
    unresolved = filled("pen").model_copy(update={"loras": [Lora(name="pen"), Lora(name="nope")]})
    with pytest.raises(InvalidRequest) as caught:
        check_kept(unresolved, SDXL, CATALOGUE)
    assert [(fault.field, fault.code) for fault in caught.value.faults] == [
        ("loras.0.sha256", "missing"),
        ("loras.1.sha256", "missing"),
    ]


def test_beside_embeddings_what_a_lora_changes_of_text_encoders_has_no_say() -> None:
    asked = {"prompt_embeds": EMBEDDINGS, "prompt": None}
    assert list(filled("ink", **asked).warnings(SDXL)) == ["lora_text_ignored"]
    assert list(filled("pen", **asked).warnings(SDXL)) == []
    assert list(filled("ink").warnings(SDXL)) == []


def test_embeddings_want_a_lora_that_changes_a_text_encoder() -> None:
    assert given(resolve(Embed(prompt="a", model="sdxl", loras=["ink"]), CATALOGUE, lambda: None).filled)
    assert faults("pen", "ink", kind="embed") == [("loras.0.name", "lora_without_text")]


def test_a_refusal_may_be_the_fault_of_an_old_reading() -> None:
    market = Market(CATALOGUE, {}, read_at=-1000)
    assert market.stale_for(InvalidRequest([Fault("loras.0.name", "unknown_lora", "")]))
    assert not market.stale_for(InvalidRequest([Fault("prompt", "missing", "")]))
