"""SDXL's refiner: what it is made of, and what it is asked for."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from darkroom.tasks import InvalidRequest
from darkroom.tasks.catalogue import ModelOffer, builtin_catalogue
from darkroom.tasks.validate import resolve
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Script, Ticket
from darkroom.worker.errors import ModelIncompatible
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.warm import warm
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.settings import WorkerSettings
from tests.unit.worker.conftest import Generators, ask, ignore, make, photo, same
from tests.unit.worker.models.conftest import Copied

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

REFINER = builtin_catalogue()["sdxl-refiner"]
KEY = "inputs/default/a.png"


def faults(offer: ModelOffer = REFINER, **fields: Any) -> dict[str, str]:
    asked = {"kind": "img2img", "prompt": "a", "image": KEY, "model": offer.name, **fields}
    try:
        resolve(asked, {offer.name: offer}, lambda: None)
    except InvalidRequest as error:
        return {fault.field: fault.message for fault in error.faults}
    return {}


def test_the_catalogue_has_it_for_pictures_alone() -> None:
    assert "img2img" in REFINER.kinds and "txt2img" not in REFINER.kinds
    assert faults() == {}
    said = faults(kind="txt2img", image=None)["kind"]
    assert said.endswith(": a refiner knows little noise alone, and begins with a picture")


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("strength", 1.0, "begins with noise alone"),
        ("prompt_2", "the sea", "one text encoder"),
        ("negative_prompt_2", "fog", "one text encoder"),
        ("target_size", [64, 64], "is told a score in its place"),
        ("hires", {"strength": 1.0}, "begins with noise alone"),
    ],
)
def test_what_it_cannot_do_is_refused_with_the_reason(field: str, value: Any, reason: str) -> None:
    (said,) = faults(**{field: value}).values()
    assert reason in said


def test_an_entry_that_offers_pictures_from_noise_is_refused() -> None:
    entry = {**REFINER.offer().model_dump(), "kinds": ["txt2img"]}
    with pytest.raises(ValueError, match="`kinds` has txt2img: a refiner"):
        ModelOffer.model_validate(entry)


def test_its_pictures_follow_from_the_seed_and_are_made_again(generators: Generators) -> None:
    generator, source = generators("sdxl-refiner"), photo(3)
    one, other, plain = (make(generator, 1, source, strength=0.7, negative_prompt=text) for text in ("", "fog", None))
    assert not same(one, other)
    assert same(one, plain)  # its model_index.json has no force_zeros_for_empty_prompt
    prepared = generator.prepare(ask(generator, image=KEY, strength=0.7, hires={"scale": 1.5}))
    ticket = Ticket()
    made = generator.generate(prepared, 2, {"image": source}, ignore, ticket).picture
    script = Ticket(script=Script(str(ticket.placements)))
    assert made.size == (48, 48)
    assert same(generator.generate(prepared, 2, {"image": source}, ignore, script).picture, made)


def test_its_denoiser_is_told_a_score_and_no_target(generators: Generators) -> None:
    generator, told = generators("sdxl-refiner"), list[torch.Tensor]()
    ticket = Ticket(solo=True, on_call=lambda call: told.append(call.tree[1]["added_cond_kwargs"]["time_ids"]))
    make(generator, 1, photo(3), ticket=ticket, strength=0.7, original_size=[64, 32], crop=[8, 0])
    assert told[0].tolist() == [[32.0, 64.0, 0.0, 0.0, 2.5], [32.0, 64.0, 0.0, 8.0, 6.0]]


def test_it_is_warmed_without_pictures_from_noise(generators: Generators) -> None:
    with Engine(threads=1) as engine:
        warm(Generator(generators("sdxl-refiner").model, engine), most_seconds=0.1)
        assert engine.stats().calls


@pytest.mark.parametrize(
    ("part", "field", "value", "said"),
    [
        ("unet", "projection_class_embeddings_input_dim", 96, "not told an aesthetic score"),
        ("unet", "cross_attention_dim", 80, "reads embeddings 80 wide, the text encoder gives 48"),
        ("unet", "addition_embed_type", None, "takes no size conditioning"),
    ],
)
def test_another_model_is_named(
    copied: Copied, placement: Placement, tmp_path: Path, part: str, field: str, value: Any, said: str
) -> None:
    entry = copied("sdxl-refiner")
    path = tmp_path / "model" / part / "config.json"
    config = {**json.loads(path.read_text()), field: value}
    made = UNet2DConditionModel.from_config(config)
    made.save_pretrained(path.parent, safe_serialization=True)
    with pytest.raises(ModelIncompatible, match=said):
        load_model(entry, placement, WorkerSettings(models_dir=tmp_path / "pins"))
