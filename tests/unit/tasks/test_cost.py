"""What a job takes of a worker, in denoiser calls of one row of a megapixel: what tenants are served by."""

from typing import Any

import pytest

from darkroom.tasks.catalogue import builtin_catalogue
from darkroom.tasks.validate import resolve

SDXL = builtin_catalogue()["sdxl"]
WISH = {"model": "sdxl", "prompt": "a fox", "width": 1000, "height": 1000, "num_inference_steps": 19}
PICTURE = "inputs/default/0.png"
TRAINING = {
    "kind": "finetune", "model": "sdxl", "name": "a", "dataset": "inputs/default/0.zip", "resolution": 1000,
    "num_train_steps": 100, "batch_size": 2, "gradient_accumulation": 3,
}  # fmt: skip


def cost(**fields: Any) -> float:
    offer = SDXL.offer()
    return resolve(fields, {"sdxl": offer}, lambda: None).filled.cost(offer)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, 2 * 20),  # two rows with guidance; one step for the text and the decoding
        ({"guidance_scale": 1}, 20),
        ({"num_images": 3}, 3 * 40),
        ({"width": 504, "height": 1000}, 40 * 0.504),
        ({"num_inference_steps": 39}, 80),
        ({"kind": "img2img", "image": PICTURE, "strength": 0.5}, 2 * (9 + 1)),
        ({"kind": "img2img", "image": PICTURE, "strength": 0}, 2 * (0 + 1)),
        ({"kind": "interpolate", "prompt_to": "the sea", "frames": 4}, 4 * 40),
        ({"hires": {"scale": 1.2, "strength": 0.5, "steps": 20}}, 40 + 2 * (10 + 1) * 1.2**2),
    ],
)
def test_pictures_cost_their_steps_by_size_and_rows(fields: dict[str, Any], wanted: float) -> None:
    assert cost(**{**WISH, **fields}) == pytest.approx(wanted, rel=0.02)  # sides are multiples of 8


def test_a_picture_of_a_source_is_taken_for_one_of_the_model_s_own_size() -> None:
    asked = {"kind": "img2img", "model": "sdxl", "prompt": "a fox", "image": PICTURE, "strength": 1.0}
    assert cost(**asked, num_inference_steps=19) == pytest.approx(2 * 20 * 1024**2 / 1e6)


def test_a_training_costs_what_it_learns_from_and_what_it_makes() -> None:
    learned = 3 * 100 * 2 * 3
    assert cost(**TRAINING) == pytest.approx(learned)
    steps = SDXL.defaults.num_inference_steps
    more = {"class_prompts": ["a fox"], "num_class_images": 10}
    assert cost(**TRAINING, **more) == pytest.approx(2 * learned + 10 * 2 * steps)
    shown = {"sample_prompts": ["a fox"], "sample_every": 50}
    assert cost(**TRAINING, **shown) == pytest.approx(learned + 3 * 2 * steps)
    assert cost(**TRAINING, dry_run=True) < learned / 10


@pytest.mark.parametrize(
    "fields",
    [{"kind": "encode", "image": PICTURE}, {"kind": "embed", "prompt": "a fox"}],
)
def test_what_takes_no_steps_costs_little_and_something(fields: dict[str, Any]) -> None:
    assert 0 < cost(model="sdxl", **fields) < cost(**WISH) / 10
