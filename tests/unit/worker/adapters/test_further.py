"""LoRAs over what a job takes from another: each model has its own, and embeddings keep what they were encoded with."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from PIL import Image

from darkroom.tasks.adapters import LoraUse
from darkroom.tasks.validate import resolve
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.images.generate import Generator
from darkroom.worker.models.derived import derived
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels
from tests.unit.worker.adapters.stocked import stocked
from tests.unit.worker.conftest import ask, ignore, make, same
from tests.unit.worker.kinds.test_embeddings import embedded, pictured

Makers = Mapping[str, Generator]
FURTHER = ("tiny-sdxl-refiner", "tiny-sdxl-refiner-few")


@pytest.fixture(scope="module")
def makers(tiny_models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Makers]:
    """A model and a refiner, and of the latter what is made of it with a LoRA that is on in every picture."""
    folder, placement = tmp_path_factory.mktemp("loras"), Placement(torch.device("cpu"), torch.float32, "full", 1)
    with Engine(1) as engine:
        base, refiner = (
            stocked(load_model(tiny_models(family), placement, WorkerSettings()), engine, folder)
            for family in ("sdxl", "sdxl-refiner")
        )
        own = {"name": FURTHER[1], "base": FURTHER[0], "own_loras": [LoraUse(name="attention", scale=2.0)]}
        few = derived(refiner.model, refiner.entry.model_copy(update=own))
        found = (base, refiner, Generator(few, engine, refiner.adapters))
        yield {one.entry.name: one for one in found}


def drawn(makers: Makers, model: str = "tiny-sdxl", **fields: Any) -> tuple[Image.Image, list[tuple[str, str]]]:
    """A picture, and the LoRAs that its manifest names, each with its model."""
    maker = makers[model]
    plain = ask(maker, num_inference_steps=4)
    asked = {**plain.model_dump(exclude={"seeds"}), **fields}
    request = resolve(asked, {name: one.entry for name, one in makers.items()}, lambda: None).filled
    prepared = maker.prepare(request, makers)
    used = [(record.model, record.name) for record in maker.used(prepared)]
    return maker.generate(prepared, 1, {}, ignore, Ticket(solo=True)).picture, used


def ways(further: str) -> list[dict[str, Any]]:
    return [
        {"refiner": {"model": further, "start": 0.5}},
        {"hires": {"scale": 1.5, "strength": 0.6, "model": further}},
    ]


@pytest.mark.parametrize("way", [0, 1], ids=["refiner", "hires"])
def test_a_further_model_has_its_own_loras_and_none_of_the_request(makers: Makers, way: int) -> None:
    plain, _ = drawn(makers, **ways(FURTHER[0])[way])
    own, used = drawn(makers, **ways(FURTHER[1])[way])
    assert used == [(FURTHER[1], "attention")]
    assert not same(own, plain)
    both, used = drawn(makers, loras=["attention"], **ways(FURTHER[1])[way])
    assert used == [("tiny-sdxl", "attention"), (FURTHER[1], "attention")]
    assert not same(both, own)
    nothing, used = drawn(makers, loras=["attention:0"], **ways(FURTHER[0])[way])
    assert same(nothing, plain)
    assert used == [("tiny-sdxl", "attention")]


def test_calls_of_the_further_model_add_nothing_of_the_requests(makers: Makers) -> None:
    adding: dict[str, set[bool]] = {"tiny-sdxl": set(), FURTHER[0]: set()}

    def listen(name: str) -> Any:
        layer = next(slot.layer for slot in makers[name].model.slots["unet"] if slot.path.endswith("attn1.to_q"))
        return layer.register_forward_hook(lambda module, *_: adding[name].add(module.delta is not None))

    handles = [listen(name) for name in adding]
    try:
        drawn(makers, loras=["attention"], **ways(FURTHER[0])[0])
    finally:
        for handle in handles:
            handle.remove()
    assert adding == {"tiny-sdxl": {True}, FURTHER[0]: {False}}


def test_embeddings_with_loras_and_a_picture_with_the_same_are_that_of_the_prompt(makers: Makers) -> None:
    base = makers["tiny-sdxl"]
    told = embedded(base, loras=["told"])
    assert same(pictured(base, told, loras=["told"]), make(base, loras=["told"]))
    assert not same(pictured(base, embedded(base), loras=["told"]), make(base, loras=["told"]))
