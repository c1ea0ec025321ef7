"""LoRAs in a manifest: each is named, and the request's are those that are named."""

import json
from typing import Any

import pytest

from darkroom.tasks.adapters import LoraOffer
from darkroom.tasks.validate import resolve
from darkroom.worker.errors import ManifestInvalid
from darkroom.worker.images.manifest import Manifest, make_manifest, parse_manifest
from darkroom.worker.images.records import AdapterRecord, ImageRecord
from darkroom.worker.models.loading import LoadedModel
from tests.unit.worker.conftest import Models, photo

SHA = "a" * 64


@pytest.fixture(scope="module")
def model(models: Models) -> LoadedModel:
    return models("sdxl")


def made(model: LoadedModel, *loras: dict[str, Any], adapters: list[AdapterRecord]) -> Manifest:
    offer = LoraOffer(name="pen", sha256=SHA, rank=4)
    entry = model.entry.model_copy(update={"loras": [offer]})
    asked = {"prompt": "a fox", "model": entry.name, "seed": 1, "loras": list(loras)}
    request = resolve(asked, {entry.name: entry}, lambda: None).filled
    record = ImageRecord.of("job", 0, 1, photo(), b"data", "image/png", "4x2:0@1")
    record = record.model_copy(update={"width": 64, "height": 64})
    return make_manifest("job", request, model, [record], {}, adapters=adapters)


def pen(**more: Any) -> AdapterRecord:
    return AdapterRecord(
        **{"name": "pen", "model": "tiny-sdxl", "sha256": SHA, "scale": 0.5, "rank": 4, "place": 0, **more}
    )


def test_it_comes_back_whether_or_not_the_lora_is_here(model: LoadedModel) -> None:
    manifest = made(model, {"name": "pen", "scale": 0.5}, adapters=[pen()])
    assert parse_manifest(manifest.to_bytes(), {model.entry.name: model.entry}) == manifest
    assert json.loads(manifest.to_bytes())["adapters"] == [pen().model_dump()]
    plain = made(model, adapters=[])
    assert b"adapters" not in plain.to_bytes()
    assert b"loras" not in plain.to_bytes()


@pytest.mark.parametrize("other", [{"sha256": "b" * 64}, {"scale": 0.75}, {"name": "ink"}, {"model": "other"}])
def test_what_the_request_names_has_to_be_among_them(model: LoadedModel, other: dict[str, Any]) -> None:
    table = json.loads(made(model, {"name": "pen", "scale": 0.5}, adapters=[pen()]).to_bytes())
    table["adapters"][0] |= other
    with pytest.raises(ManifestInvalid, match="the request has the LoRA 'pen', which is not among `adapters`"):
        parse_manifest(json.dumps(table).encode(), {model.entry.name: model.entry})


@pytest.mark.parametrize("other", [{"scale": "1e999"}, {"place": -1}, {"rank": 0}, {"name": "../x"}, {"path": "/x"}])
def test_what_cannot_be_is_refused(model: LoadedModel, other: dict[str, Any]) -> None:
    table = json.loads(made(model, {"name": "pen", "scale": 0.5}, adapters=[pen()]).to_bytes())
    table["adapters"][0] |= other
    with pytest.raises(ManifestInvalid, match=r"adapters\.0"):
        parse_manifest(json.dumps(table).encode(), {model.entry.name: model.entry})
