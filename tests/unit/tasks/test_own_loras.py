"""A tenant's own LoRAs in requests: which one a name means, and what is refused."""

from datetime import UTC, datetime
from typing import Any

import pytest

from darkroom.tasks import InvalidRequest, Lora, Txt2Img
from darkroom.tasks.adapters import LoraOffer, LoraUse, OwnLora
from darkroom.tasks.catalogue import ModelOffer, builtin_catalogue
from darkroom.tasks.needs import abilities, lean, needs_of
from darkroom.tasks.own_loras import Belongings, Owned, asked_of, decode, folder_of, key_of, read_named
from darkroom.tasks.requests import Request, parse_request
from darkroom.tasks.validate import check_kept, resolve

PEN, MINE, OTHER = "a" * 64, "b" * 64, "c" * 64
SDXL = (
    builtin_catalogue()["sdxl"]
    .offer()
    .model_copy(
        update={"loras": [LoraOffer(name="pen", sha256=PEN, rank=16), LoraOffer(name="ink", sha256=OTHER, rank=8)]}
    )
)
QUICK = SDXL.model_copy(update={"name": "quick", "base": "sdxl", "own_loras": [LoraUse(name="pen")]})
CATALOGUE: dict[str, ModelOffer] = {offer.name: offer for offer in (SDXL, QUICK)}


def own(name: str, **more: Any) -> OwnLora:
    facts = {"sha256": MINE, "rank": 8, "bytes": 1000, "family": "sdxl", "made": datetime.now(UTC), **more}
    return OwnLora.model_validate({"name": name, **facts})


HERS: Belongings = {
    "alice": Owned(
        {
            one.name: one
            for one in (own("cat"), own("pen"), own("wide", rank=120), own("old", family="sd"), own("said", text=True))
        },
        frozenset({"broken"}),
    )
}


def filled(*loras: Any, tenant: str = "alice", **fields: Any) -> Request:
    asked = {"prompt": "a", "model": "sdxl", "tenant": tenant, "loras": list(loras), **fields}
    return resolve(asked, CATALOGUE, lambda: None, own=HERS).filled


def meant(request: Request) -> list[tuple[str, str | None, bool]]:
    return [(lora.name, lora.sha256, lora.own) for lora in getattr(request, "loras", [])]


def faults(*loras: Any, **fields: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(InvalidRequest) as caught:
        filled(*loras, **fields)
    return [(fault.field, fault.code, fault.message) for fault in caught.value.faults]


def test_a_name_is_the_tenants_own_else_the_catalogues() -> None:
    assert meant(filled("cat", "pen", "ink")) == [("cat", MINE, True), ("pen", MINE, True), ("ink", OTHER, False)]
    assert meant(filled("pen", tenant="bob")) == [("pen", PEN, False)]


def test_a_digest_tells_which_of_two_is_meant() -> None:
    assert meant(filled({"name": "pen", "sha256": PEN})) == [("pen", PEN, False)]
    assert meant(filled({"name": "pen", "sha256": MINE})) == [("pen", MINE, True)]
    assert meant(filled({"name": "pen", "own": True})) == [("pen", MINE, True)]


def test_what_was_resolved_means_the_same_when_it_is_asked_for_again() -> None:
    for request in (filled("cat", "pen"), filled({"name": "pen", "sha256": PEN})):
        again = resolve(parse_request(lean(request)), CATALOGUE, lambda: None, own=HERS).filled
        assert meant(again) == meant(request)


def test_an_own_lora_is_a_need_and_others_are_written_as_before() -> None:
    assert needs_of(filled("cat")) == ("lora:own", "loras")
    assert needs_of(filled("ink")) == ("loras",)
    assert lean(filled("ink"))["loras"] == [{"name": "ink", "scale": 1.0, "sha256": OTHER}]
    assert lean(filled("cat"))["loras"] == [{"name": "cat", "scale": 1.0, "sha256": MINE, "own": True}]
    assert "lora:own" in abilities([Txt2Img])
    assert "lora:own" not in abilities([Txt2Img], lacks=["lora:own"])


def test_another_tenants_name_is_answered_as_one_that_nobody_has() -> None:
    (theirs,), (nobodys,) = faults("cat", tenant="bob"), faults("dog", tenant="bob")
    assert theirs[:2] == ("loras.0.name", "unknown_lora")
    assert theirs[2] == nobodys[2].replace("'dog'", "'cat'")
    (asked_as_own,) = faults({"name": "cat", "own": True}, tenant="bob")
    assert asked_as_own[1:] == ("unknown_lora", "the tenant has no LoRA 'cat' of its own")


@pytest.mark.parametrize(
    ("lora", "field", "code", "says"),
    [
        ("old", "loras.0.name", "lora_not_for_model", "the tenant's own is for the family sd, and sdxl is of sdxl"),
        ("broken", "loras.0.name", "lora_unreadable", "`darkroom loras restore` mends it"),
        ({"name": "cat", "sha256": OTHER}, "loras.0.sha256", "adapter_missing", f"the tenant has another file of {''}"),
        ("../cat", "loras.0.name", "not_a_name", "is a path"),
        ({"name": "ink", "own": True}, "loras.0.name", "unknown_lora", "the tenant has no LoRA 'ink' of its own"),
        ({"name": "cat", "own": 1}, "loras.0.own", "bool_type", "boolean"),
    ],
)
def test_what_is_refused(lora: Any, field: str, code: str, says: str) -> None:
    (found,) = faults(lora)
    assert found[:2] == (field, code)
    assert says in found[2]


def test_own_ranks_count_with_the_others() -> None:
    (found,) = faults("wide", "ink", "cat")
    assert found[:2] == ("loras", "lora_rank_too_large")
    assert "are 136 together (wide 120, ink 8, cat 8)" in found[2]


def test_a_models_own_lora_stays_the_catalogues() -> None:
    assert meant(filled("pen", model="quick")) == [("pen", MINE, True)]  # another file than the one that is on anyway
    (found,) = faults({"name": "pen", "sha256": PEN}, model="quick")
    assert found[1] == "lora_twice"


def test_other_faults_do_not_hide_what_the_tenant_has() -> None:
    (found,) = faults("cat", num_inference_steps="many")
    assert found[0] == "num_inference_steps"


def test_an_own_lora_may_leave_text_encoders_as_they_are() -> None:
    assert meant(filled("said", kind="embed")) == [("said", MINE, True)]
    assert faults("cat", kind="embed")[0][1] == "lora_without_text"


def test_a_worker_takes_a_record_that_names_one() -> None:
    check_kept(filled("cat"), SDXL, CATALOGUE)


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        ({"loras": ["cat:0.5", {"name": "pen"}, Lora(name="ink")]}, ("default", ["cat", "pen", "ink"])),
        ({"loras": "cat", "tenant": "alice"}, ("alice", ["cat"])),
        (Txt2Img(prompt="a", tenant="alice", loras=["cat"]), ("alice", ["cat"])),
        ({"loras": [7, None, "../cat", {"name": []}, {}, b"cat"]}, ("default", [])),
        ({"loras": 7, "tenant": ["alice"]}, ("", [])),
        ({"loras": ["cat"], "tenant": "a:b"}, ("", [])),
        ({"prompt": "a"}, ("default", [])),
        (None, ("", [])),
    ],
)
def test_what_a_request_names_is_read_whatever_else_is_wrong_with_it(request_: Any, found: Any) -> None:
    assert asked_of(request_) == found


def test_without_a_name_redis_is_not_asked() -> None:
    asking = read_named([{"prompt": "a"}, {"prompt": "a", "loras": []}])
    with pytest.raises(StopIteration) as ended:
        next(asking)
    assert ended.value.value == {}


def test_entries_are_read_without_what_is_not_known() -> None:
    lora = own("cat", base="sdxl", job="j")
    assert decode(lora.model_dump_json()) == lora
    assert decode(lora.model_dump_json()[:-1] + ', "colour": 1}') == lora


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "cat"}', b"\xff", "[" * 100_000])
def test_an_entry_that_is_none(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(text)


@pytest.mark.parametrize(
    ("tenant", "name", "field"),
    [("..", "cat", "tenant"), ("a/b", "cat", "tenant"), ("alice", "../cat", "name"), ("alice", "Cat", "name")],
)
def test_a_key_is_never_a_path_elsewhere(tenant: str, name: str, field: str) -> None:
    with pytest.raises(InvalidRequest, match=field):
        folder_of(tenant, name)
    assert key_of("alice", "cat", MINE) == f"loras/alice/cat/{MINE}.safetensors"
    with pytest.raises(InvalidRequest, match="sha256"):
        key_of("alice", "cat", "x")
