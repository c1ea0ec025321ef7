"""Recipes: what a training does where its request says nothing."""

from typing import Any

import pytest

from darkroom.tasks import InvalidRequest
from darkroom.tasks.adapters import LoraOffer, OwnOffer
from darkroom.tasks.catalogue import builtin_catalogue
from darkroom.tasks.offers import read, released
from darkroom.tasks.requests import Finetune
from darkroom.tasks.training import Recipe
from darkroom.tasks.validate import resolve

ASKED = {"kind": "finetune", "model": "sdxl", "name": "a", "dataset": "inputs/default/0.zip"}
OWN = Recipe(num_train_steps=40, rank=4, learning_rate=2e-3, batch_size=6, targets="all", min_snr_gamma=0)
SDXL = builtin_catalogue()["sdxl"].model_copy(update={"training": OWN})


def filled(**fields: Any) -> Finetune:
    found = resolve({**ASKED, **fields}, {"sdxl": SDXL}, lambda: None).filled
    assert isinstance(found, Finetune)
    return found


def test_the_model_s_recipe_is_taken_where_nothing_is_said() -> None:
    assert filled().recipe == OWN.model_copy(update={"class_prompts": None, "num_class_images": 0})
    said = filled(rank=8, text_encoder=True, min_snr_gamma=5)
    assert (said.rank, said.text_encoder, said.min_snr_gamma, said.num_train_steps) == (8, True, 5, 40)


def test_prodigy_has_a_rate_of_its_own() -> None:
    assert filled(optimizer="prodigy").learning_rate == 1.0
    assert filled(optimizer="prodigy", learning_rate=0.5).learning_rate == 0.5


def test_a_warm_up_is_held_against_the_steps_that_will_be_made() -> None:
    assert filled(warmup_steps=39).warmup_steps == 39
    with pytest.raises(InvalidRequest) as caught:
        filled(warmup_steps=40)
    assert [(fault.field, fault.code) for fault in caught.value.faults] == [("warmup_steps", "too_large")]


def test_a_name_that_hides_one_of_the_catalogue_is_told_of() -> None:
    theirs = {"name": "a", "sha256": "0" * 64, "rank": 4, "text": False, "scale": 1.0}
    found = [
        SDXL.model_copy(update={"loras": loras})
        for loras in ([LoraOffer(**theirs)], [OwnOffer(**theirs, family="sdxl")], [])
    ]
    assert [[*filled().warnings(offer)] for offer in found] == [["lora_hidden"], [], []]


def test_an_offer_carries_it_and_the_first_release_does_not_see_it() -> None:
    offer = builtin_catalogue()["sdxl"].offer().model_copy(update={"training": OWN})
    assert read(offer.model_dump_json()).training == OWN
    assert "training" not in released(offer)


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"learning_rate": float("nan")}, {"targets": "some"}, {"steps": 5}])
def test_what_is_no_recipe(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Recipe.model_validate(wrong)
