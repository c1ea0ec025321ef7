"""Offers across releases, and of unlike workers."""

import json
from typing import Any

import pytest

from darkroom.tasks.adapters import LoraOffer, LoraUse
from darkroom.tasks.catalogue import Limits, ModelOffer, builtin_catalogue
from darkroom.tasks.needs import RELEASED_VALUES
from darkroom.tasks.offers import RELEASED_OFFER, agreed, agreed_loras, joint, read, released

OFFER = builtin_catalogue()["sdxl"].offer()


def changed(**fields: Any) -> ModelOffer:
    return ModelOffer.model_validate({**OFFER.model_dump(), **fields})


def of_a_later_release(**fields: Any) -> dict[str, Any]:
    """As JSON; no check of this release's stands in its way."""
    return {**OFFER.model_dump(mode="json"), **fields}


def test_what_is_published_has_the_first_releases_fields_alone() -> None:
    found = json.loads(released(OFFER))
    assert set(found) == set(RELEASED_OFFER[""])
    assert {part: set(found[part]) for part in ("defaults", "limits")} == {
        part: set(RELEASED_OFFER[part]) for part in ("defaults", "limits")
    }


def test_the_first_release_is_not_told_of_what_came_later() -> None:
    later = OFFER.model_copy(
        update={
            "kinds": ["toy", "txt2img"],
            "schedulers": ["heun", *OFFER.schedulers],
            "defaults": OFFER.defaults.model_copy(update={"scheduler": "heun"}),
        }
    )
    found = ModelOffer.model_validate_json(released(later))
    assert (found.kinds, found.schedulers) == (["txt2img"], OFFER.schedulers)
    assert found.defaults.scheduler == OFFER.schedulers[0]


def test_what_leaves_the_first_release_nothing_to_ask_for_it_cannot_read() -> None:
    with pytest.raises(ValueError, match="kinds"):
        ModelOffer.model_validate_json(released(OFFER.model_copy(update={"kinds": ["toy"]})))


def test_an_offer_of_a_later_release_is_read_without_what_is_not_known_here() -> None:
    defaults, limits = {**OFFER.defaults.model_dump(), "glow": 1}, {**OFFER.limits.model_dump(), "max_glow": 2}
    kinds, schedulers = [*OFFER.kinds, "later"], ["later", *OFFER.schedulers]
    later = of_a_later_release(defaults=defaults, limits=limits, kinds=kinds, schedulers=schedulers, glows=True)
    assert read(json.dumps(later)) == OFFER


def test_loras_are_for_those_who_know_them() -> None:
    ours = LoraOffer(name="pen", sha256="a" * 64, rank=8)
    later = of_a_later_release(
        loras=[{**ours.model_dump(), "glow": 1}], own_loras=[{"name": "quick", "scale": 1, "glow": 1}], base="sdxl"
    )
    found = read(json.dumps(later))
    assert (found.loras, found.own_loras, found.base) == ([ours], [LoraUse(name="quick")], "sdxl")
    assert not {"loras", "own_loras", "base"} & json.loads(released(found)).keys()


def test_workers_agree_on_loras_of_one_name_and_one_file() -> None:
    def worker(**digests: str) -> ModelOffer:
        found = [LoraOffer(name=name, sha256=digest * 64, rank=8) for name, digest in digests.items()]
        return OFFER.model_copy(update={"loras": found})

    one, other = worker(pen="a", ink="b", wax="c"), worker(wax="c", ink="d", pen="a")
    assert [lora.name for lora in agreed_loras([one, other])] == ["pen", "wax"]
    assert agreed_loras([one]) == one.loras
    assert agreed_loras([one, worker()]) == agreed_loras([]) == []


@pytest.mark.parametrize("text", ["", "7", "[]", "null", "{}", '{"defaults": 1}', "[" * 100_000, '{"schedulers": 3}'])
def test_what_is_no_offer_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        read(text)


@pytest.mark.parametrize("loras", [7, [7], [{"name": "pen"}], "pen", None])
def test_loras_that_are_none_are_a_value_error(loras: Any) -> None:
    with pytest.raises(ValueError):
        read(json.dumps(of_a_later_release(loras=loras)))


def test_of_unlike_workers_that_may_be_asked_which_all_can_do() -> None:
    small = changed(
        limits=Limits(grid=16, min_side=64, max_side=1024, max_pixels=1024 * 1024, max_steps=50, max_images=4),
        schedulers=["dpmpp_2m", "euler", "ddim"],
        kinds=["txt2img"],
        prompt_tokens=70,
    )
    large = changed(
        limits=Limits(grid=24, min_side=256, max_side=4096, max_steps=100, max_images=2),
        schedulers=["euler", "dpmpp_2m", "unipc"],
        defaults={**OFFER.defaults.model_dump(), "width": 960, "height": 960},
    )
    for found in (joint([small, large]), joint([large, small])):
        assert found.limits == Limits(
            grid=48, min_side=256, max_side=1024, max_pixels=1024 * 1024, max_steps=50, max_images=2
        )
        kinds = [kind for kind in found.kinds if kind in RELEASED_VALUES["kind"]]
        assert (sorted(found.schedulers), kinds, found.prompt_tokens) == (["dpmpp_2m", "euler"], ["txt2img"], 70)
        assert (found.defaults.width, found.defaults.height) == (960, 960)  # 1024 is off the common grid


def test_what_came_after_the_first_release_any_of_them_may_have() -> None:
    """It is a need: the job goes to the one that has it."""
    one = OFFER.model_copy(update={"kinds": ["txt2img"], "schedulers": ["euler", "heun"]})
    other = OFFER.model_copy(update={"kinds": ["txt2img", "toy"], "schedulers": ["euler", "ddim"]})
    assert agreed("kind", [one.kinds, other.kinds]) == ["txt2img", "toy"]
    assert agreed("scheduler", [one.schedulers, other.schedulers]) == ["euler", "heun"]


def test_workers_with_nothing_in_common_are_asked_as_the_first_of_them() -> None:
    small = changed(limits=Limits(max_side=512), defaults={**OFFER.defaults.model_dump(), "width": 512, "height": 512})
    large = changed(limits=Limits(min_side=1024))
    assert joint([small, large]) == small
    assert joint([large, small]) == large
