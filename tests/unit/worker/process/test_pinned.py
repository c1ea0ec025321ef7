"""The models of a process: weights once, whatever is made of them."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from structlog.testing import capture_logs

from darkroom.tasks.catalogue import Contents, load_contents
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Script, Ticket
from darkroom.worker.errors import (
    AdapterCorrupt,
    AdapterDigestMismatch,
    AdapterError,
    AdapterMissing,
    AdapterUnsafe,
    ModelIncompatible,
)
from darkroom.worker.images.circumstances import circumstances
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.warm import warm_derived
from darkroom.worker.models.device import Placement
from darkroom.worker.models.digests import hash_files
from darkroom.worker.models.loading import load_model
from darkroom.worker.models.lockfile import read_lock
from darkroom.worker.process.pinned import Pinned, named_entries
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels
from tests.loras import small_lora
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

    def lora(self, name: str, **how: Any) -> Path:
        path = self.folder / f"{name}.safetensors"
        write_kohya(path, self.model, train(self.model, **how), original=False)
        self.data["loras"].append({"name": name, "family": "sdxl", "source": {"type": "file", "path": path.name}})
        return path

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

    def warned(self) -> list[tuple[str, str, str]]:
        """What the log warns of at the start of a worker of the base: event, of what, and code."""
        with capture_logs() as logs:
            self.pinned("tiny-sdxl")
        told = [line for line in logs if line["log_level"] == "warning"]
        return [(line["event"], line.get("lora", line.get("model")), line["code"]) for line in told]

    @property
    def locked(self) -> set[str]:
        """The LoRAs that are pinned."""
        return {name for name in read_lock(self.settings.models_dir).models if name.startswith("loras/")}


def with_nan(path: Path) -> None:
    tensors = load_file(path)
    next(iter(tensors.values())).view(-1)[0] = torch.nan
    save_file(tensors, path)


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


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "adapter_corrupt"),
        (lambda path: path.write_bytes(b"PK\x03\x04" * 9), "adapter_unsafe"),
        (with_nan, "adapter_corrupt"),
        (lambda path: small_lora(path, rank=200), "adapter_incompatible"),
    ],
)
def test_a_file_that_is_no_use_is_not_pinned_and_may_be_mended(
    place: Place, spoil: Callable[[Path], object], code: str
) -> None:
    path = place.lora("pen", ranks=(4,))
    whole = path.read_bytes()
    spoil(path)
    assert place.warned() == [("adapter.not_offered", "pen", code)]
    assert place.locked == set()
    path.write_bytes(whole)
    assert place.warned() == []
    assert place.locked == {"loras/pen"}
    small_lora(path)
    assert place.warned() == [("adapter.not_offered", "pen", "adapter_digest_mismatch")]


def test_a_file_that_is_not_there_is_warned_of_unless_it_was_never_pulled(place: Place) -> None:
    place.lora("pen", ranks=(4,)).unlink()
    os.mkfifo(place.lora("fifo", ranks=(4,)).with_name("other.safetensors"))
    place.data["loras"][-1]["source"]["path"] = "other.safetensors"
    source = {"type": "hub", "repo": "some/loras", "file": "ink.safetensors"}
    place.data["loras"].append({"name": "ink", "family": "sdxl", "source": source})
    assert place.warned() == [("adapter.not_offered", name, "adapter_missing") for name in ("pen", "fifo")]


def own_refused(place: Place, error: type[AdapterError], said: str) -> None:
    """The model's error names it, its LoRA, the file and what is the matter with that."""
    with pytest.raises(error, match=said) as caught:
        place.pinned("tiny-few")
    message = caught.value.message
    assert message.startswith("model tiny-few: ")
    assert "LoRA few" in message
    assert str(place.folder / "few.safetensors") in message


def test_a_model_whose_own_lora_cannot_be_used_says_why(place: Place) -> None:
    path = place.lora("few", ranks=(4,))
    place.made("tiny-few", "few")
    whole = path.read_bytes()
    path.write_bytes(b"PK\x03\x04" * 9)
    own_refused(place, AdapterUnsafe, "a pickle under another name")
    path.write_bytes(whole)
    assert list(place.pinned("tiny-few")) == ["tiny-few"]
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # of the size that was pinned
    own_refused(place, AdapterDigestMismatch, "changed, its SHA-256 is")
    path.write_bytes(whole[:-1])
    own_refused(place, AdapterDigestMismatch, "changed since its digest was pinned: its SHA-256 is")
    path.write_bytes(whole)
    with_nan(path)
    place.data["loras"][0]["sha256"] = hash_files({"few": path})["few"].sha256
    (place.settings.models_dir / "darkroom-models.lock").unlink()
    own_refused(place, AdapterCorrupt, "NaN or infinity")


def test_a_models_own_loras_have_a_rank_that_it_takes(place: Place) -> None:
    place.lora("wide", ranks=(12,))
    place.lora("told", ranks=(20,), only=lambda part, _: part == "text_encoder")
    place.made("tiny-few", "wide", "told")
    place.data["models"][-1]["limits"]["max_lora_rank"] = 32
    said = r"ranks, in steps of 8, are 40 together \(wide 12, told 20\); tiny-few takes at most 32"
    with pytest.raises(ModelIncompatible, match=said):
        place.pinned("tiny-few")
    assert place.warned() == [("model.not_served", "tiny-few", "model_incompatible")]
    place.data["models"][-1]["limits"]["max_lora_rank"] = 40
    assert list(place.pinned("tiny-sdxl")) == ["tiny-sdxl", "tiny-few"]


def test_wanted_loras_alone_are_looked_at_and_have_to_be_usable(place: Place) -> None:
    place.lora("broken", ranks=(4,)).write_bytes(b"")
    place.lora("pen", ranks=(4,))
    contents = place.contents
    entries = named_entries(["tiny-sdxl"], contents)

    def wanted(*names: str) -> list[str]:
        pinned = Pinned(contents, place.placement, place.settings, place.engine, loras=names)
        return [offer.name for offer in pinned.named(entries)["tiny-sdxl"].entry.loras]

    with capture_logs() as logs:
        assert wanted("pen") == ["pen"]
        assert wanted() == []
    assert [line for line in logs if line["log_level"] == "warning"] == []
    with pytest.raises(AdapterCorrupt, match=r"broken\.safetensors: truncated"):
        wanted("broken")


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
