"""Prior preservation as it is asked for."""

from typing import Any

import pytest

from darkroom.tasks import InvalidRequest
from darkroom.tasks.catalogue import ModelOffer, builtin_catalogue
from darkroom.tasks.needs import needs_of
from darkroom.tasks.requests import Finetune
from darkroom.tasks.training import Recipe
from darkroom.tasks.validate import resolve

CATALOGUE: dict[str, ModelOffer] = dict(builtin_catalogue())
ASKED = {"kind": "finetune", "model": "sdxl", "name": "a", "dataset": "inputs/default/0.zip"}


def filled(**fields: Any) -> Finetune:
    found = resolve({**ASKED, **fields}, CATALOGUE, lambda: None).filled
    assert isinstance(found, Finetune)
    return found


@pytest.mark.parametrize(
    ("fields", "faults"),
    [
        ({"class_prompts": [" "]}, ["class_prompts.0 invalid_value"]),
        ({"class_prompts": ["a"] * 101, "num_class_images": 101}, ["class_prompts too_long"]),
        ({"class_prompts": "a " * 100}, ["class_prompts.0 too_long"]),
        ({"class_prompts": "a" * 10_001}, ["class_prompts.0 string_too_long"]),
        ({"class_prompts": "a", "num_class_images": 0}, ["num_class_images too_small"]),
        ({"class_prompts": "a", "num_class_images": -1}, ["num_class_images greater_than_equal"]),
        ({"class_prompts": "a", "num_class_images": 10_000}, ["num_class_images less_than_equal"]),
        ({"class_prompts": ["a", "b", "c"], "num_class_images": 2}, ["num_class_images too_small"]),
        ({"class_prompts": "a", "prior_loss_weight": float("nan")}, ["prior_loss_weight finite_number"]),
        ({"class_prompts": "a", "prior_loss_weight": 0}, ["prior_loss_weight greater_than"]),
        ({"class_prompts": "a", "resolution": 2048}, ["resolution too_many_pixels"]),
        ({"class_prompts": 5}, ["class_prompts list_type"]),
        ({"prior_loss_weight": 0.5}, ["prior_loss_weight no_class_prompts"]),
        (
            {"num_class_images": 9, "prior_loss_weight": 0.5},
            ["num_class_images no_class_prompts", "prior_loss_weight no_class_prompts"],
        ),
    ],
)
def test_what_is_refused(fields: dict[str, Any], faults: list[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        filled(**fields)
    assert [f"{fault.field} {fault.code}" for fault in caught.value.faults] == faults


def test_one_prompt_needs_no_brackets_and_a_worker_that_knows_of_it() -> None:
    one = filled(class_prompts="a star, in red")
    assert (one.class_prompts, one.num_class_images, one.prior_loss_weight) == (["a star, in red"], 100, 1.0)
    assert set(needs_of(one)) - set(needs_of(filled())) == {"class_prompts"}


def test_defaults_may_be_written_all_the_same() -> None:
    assert filled(num_class_images=0, prior_loss_weight=1.0).class_prompts is None


def test_what_a_model_has_of_its_own_is_taken_where_nothing_is_said() -> None:
    def wanted(**fields: Any) -> tuple[list[str] | None, int | None]:
        sdxl = CATALOGUE["sdxl"].model_copy(
            update={"training": Recipe(class_prompts=["a star", "a ring"], num_class_images=8)}
        )
        found = resolve({**ASKED, **fields}, {"sdxl": sdxl}, lambda: None).filled
        assert isinstance(found, Finetune)
        assert found == resolve(found, {"sdxl": sdxl}, lambda: None).filled  # and it is asked for once
        return found.class_prompts, found.num_class_images

    assert wanted() == (["a star", "a ring"], 8)
    assert wanted(num_class_images=1) == (["a star"], 1)
    assert wanted(class_prompts=["a moon"] * 9) == (["a moon"] * 9, 9)
    assert wanted(num_class_images=0) == wanted(class_prompts=[]) == (None, 0)


def test_a_model_that_makes_no_pictures_of_a_prompt_is_no_good() -> None:
    sdxl = CATALOGUE["sdxl"]
    other = {"sdxl": sdxl.model_copy(update={"kinds": ["finetune"]})}
    with pytest.raises(InvalidRequest, match="makes no pictures from a prompt alone"):
        resolve({**ASKED, "class_prompts": "a star"}, other, lambda: None)
