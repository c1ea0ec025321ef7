"""The models of a process: weights once, whatever is made of them."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs

from darkroom.tasks.catalogue import Contents, load_contents
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Script, Ticket
from darkroom.worker.errors import AdapterMissing, ModelIncompatible
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.manifest import circumstances
from darkroom.worker.images.warm import warm_derived
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.process.pinned import Pinned, named_entries
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels
from tests.unit.worker.adapters.writers import train, write_kohya
from tests.unit.worker.conftest import make, same
from tests.unit.worker.process.conftest import in_catalogue

FEW = {"width": 32, "height": 32, "num_inference_steps": 2, "guidance_scale": 1.0, "scheduler": "euler"}


class Place:
    """A catalogue of the tiny model, what is made of it, and LoRAs; and how it is pinned."""

    def __init__(self, folder: Path, entry: Any, engine: Engine) -> None:
        self.folder, self.engine = folder, engine
        self.placement = Placement(torch.device("cpu"), torch.float32, "full", 1)
        self.settings = WorkerSettings(models_dir=folder / "models", catalogue=folder / "catalogue.json")
        self.data: dict[str, Any] = {"models": [in_catalogue(entry)], "loras": []}
        self.model = load_model(entry, self.placement, self.settings)

    def lora(self, name: str, **how: Any) -> None:
        path = self.folder / f"{name}.safetensors"
        write_kohya(path, self.model, train(self.model, **how), original=False)
        self.data["loras"].append({"name": name, "family": "sdxl", "source": {"type": "file", "path": path.name}})

    def made(self, name: str, *own: str, **more: Any) -> None:
        fields = {"base": "tiny-sdxl", "own_loras": [{"name": lora} for lora in own], "defaults": FEW}
        limits = {"min_side": 32, "max_side": 64, "max_pixels": 4096}
        self.data["models"].append({"name": name, **fields, "limits": limits, "schedulers": ["euler", "ddim"], **more})

    @property
    def contents(self) -> Contents:
        (self.folder / "catalogue.json").write_text(json.dumps(self.data))
        return load_contents(self.folder / "catalogue.json")

    def pinned(self, *names: str) -> dict[str, Generator]:
        contents = self.contents
        entries = named_entries(names, contents)
        return Pinned(contents, self.placement, self.settings, self.engine).generators(entries)


@pytest.fixture
def place(tmp_path: Path, tiny_models: TinyModels, engine: Engine) -> Place:
    return Place(tmp_path, tiny_models("sdxl"), engine)


def test_a_worker_of_the_base_serves_what_is_made_of_it(place: Place) -> None:
    place.lora("few", ranks=(4,))
    place.lora("other", ranks=(8,), seed=1)
    place.made("tiny-few", "few", scheduler_config={"timestep_spacing": "trailing"})
    found = place.pinned("tiny-sdxl")
    assert list(found) == ["tiny-sdxl", "tiny-few"]
    base, few = found.values()
    assert [offer.name for offer in base.entry.loras] == ["few", "other"]
    assert few.entry.base == "tiny-sdxl"
    assert all(
        few.model.components[name] is part for name, part in base.model.components.items() if name != "scheduler"
    )
    assert few.adapters is base.adapters
    spacing = [circumstances(one.model, "euler")["scheduler"].config["timestep_spacing"] for one in (base, few)]
    assert spacing == ["leading", "trailing"]
    warm_derived(few)


def test_rows_of_both_are_in_one_call(place: Place) -> None:
    place.lora("few", ranks=(4,))
    place.made("tiny-few", "few")
    base, few = place.pinned("tiny-sdxl").values()
    alone = [make(base, 3), make(few, 4)]
    assert not same(make(base, 4), alone[1])
    assert same(make(base, 4, loras=["few"], guidance_scale=1.0), alone[1])
    tickets, before = [Ticket() for _ in range(8)], place.engine.stats()
    with ThreadPoolExecutor(8) as pool:
        jobs = [(base, 3), (few, 4)] * 4
        made = list(pool.map(lambda it: make(*it[0], ticket=it[1]), zip(jobs, tickets, strict=True)))
    after = place.engine.stats()
    assert sum(after.model_calls.values()) - sum(before.model_calls.values()) < after.calls - before.calls
    assert any(ticket.placements and "@1" in str(ticket.placements) for ticket in tickets[::2])
    for (generator, seed), ticket, picture in zip(jobs, tickets, made, strict=True):
        assert same(make(generator, seed, ticket=Ticket(script=Script(str(ticket.placements)))), picture)


def test_what_lacks_its_lora_is_not_served_unless_it_was_named(place: Place) -> None:
    place.lora("few", ranks=(4,))
    place.made("tiny-few", "few")
    contents = place.contents
    (place.folder / "few.safetensors").unlink()
    assert list(
        Pinned(contents, place.placement, place.settings, place.engine).generators([contents.models["tiny-sdxl"]])
    ) == ["tiny-sdxl"]
    with pytest.raises(AdapterMissing, match=r"LoRA few: .*few\.safetensors is not there"):
        place.pinned("tiny-few")


def test_a_model_that_is_made_of_another_is_served_alone(place: Place) -> None:
    place.lora("few", ranks=(4,))
    place.made("tiny-few", "few")
    found = place.pinned("tiny-few")
    assert list(found) == ["tiny-few"]
    assert same(make(found["tiny-few"], 4), make(place.pinned("tiny-sdxl")["tiny-few"], 4))


def test_a_file_that_does_not_fit_is_not_offered_and_told_of(place: Place) -> None:
    place.lora("good", ranks=(4,))
    place.lora("broken", ranks=(4,), seed=1)
    path = place.folder / "broken.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with capture_logs() as logs:
        found = place.pinned("tiny-sdxl")
    assert [offer.name for offer in found["tiny-sdxl"].entry.loras] == ["good"]
    (told,) = [line for line in logs if line["event"] == "adapter.not_offered"]
    assert (told["lora"], told["code"]) == ("broken", "adapter_corrupt")


def test_kinds_of_its_own_have_to_be_the_bases(place: Place) -> None:
    place.data["models"][0]["kinds"] = ["txt2img"]
    place.made("tiny-few", kinds=["img2img"])
    with pytest.raises(ModelIncompatible, match="tiny-few: tiny-sdxl, which it is made of, does not do img2img"):
        place.pinned("tiny-few")


def test_embeddings_are_of_other_encoders_where_a_lora_of_its_own_changes_them(place: Place) -> None:
    place.lora("said", ranks=(4,))
    place.lora("mute", ranks=(4,), only=lambda part, _: part == "unet")
    for name in ("said", "mute"):
        place.made(f"tiny-{name}", name)
    found = {name: generator.texts.digest for name, generator in place.pinned("tiny-sdxl").items()}
    assert found["tiny-mute"] == found["tiny-sdxl"] != found["tiny-said"]
