"""Embeddings made once and taken in a prompt's place: the same pictures, and none for embeddings of something else."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load, save

from darkroom.storage.errors import InputUnfit
from darkroom.tasks.catalogue import Family
from darkroom.tasks.validate import resolve
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.manifest import ImageRecord, make_manifest, parse_manifest
from darkroom.worker.images.pictures import encode
from darkroom.worker.images.replay import Replay
from darkroom.worker.kinds.embeddings import read_embeddings
from tests.unit.worker.conftest import FAMILIES, Generators, ask, ignore, make, photo, same

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
KEY = "0/embeddings-0-0000000000000000.safetensors"
SOURCE = "inputs/default/it.png"
WORDS: dict[str, Any] = {"negative_prompt": "a dog", "prompt": "the sea " * 60, "clip_skip": 1}


def embedded(generator: Generator, **fields: Any) -> bytes:
    """The file that a job of the kind makes."""
    entry = generator.entry
    asked = {"kind": "embed", "prompt": "a red fox", "model": entry.name, **fields}
    request = resolve(asked, {entry.name: entry}, lambda: None).filled
    (file,) = generator.generate(generator.prepare(request), 0, {}, ignore, Ticket()).files
    assert (file.role, file.extension) == ("embeddings", "safetensors")
    return file.data


def pictured(generator: Generator, data: bytes, seed: int = 1, source: Image.Image | None = None, **fields: Any) -> Any:
    """The picture of a job that is given the file."""
    named = {"image": SOURCE} if source else {}
    prepared = generator.prepare(ask(generator, prompt=None, prompt_embeds=KEY, **named, **fields))
    given = {"prompt_embeds": data, **({"image": encode(source, "png", "")[0]} if source else {})}
    sources = prepared.kind.read(prepared, given)
    return generator.generate(prepared, seed, sources, ignore, Ticket(solo=True)).picture


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("words", [{}, WORDS, {"prompt": "a (red)1.5 fox", "prompt_syntax": "compel"}])
def test_pictures_are_those_of_the_prompt_to_the_bit(
    generators: Generators, family: Family, words: dict[str, Any]
) -> None:
    generator = generators(family)
    data = embedded(generator, **words)
    assert same(pictured(generator, data), make(generator, 1, **words))
    assert same(
        pictured(generator, data, 1, photo(1), strength=0.6), make(generator, 1, photo(1), strength=0.6, **words)
    )
    more = {"scheduler": "edm_euler" if family == "playground" else "euler_a", "num_inference_steps": 5}
    assert same(pictured(generator, data, 3, **more), make(generator, 3, **words, **more))


def test_without_guidance_those_of_the_negative_prompt_are_left(generators: Generators) -> None:
    generator = generators("sdxl")
    data = embedded(generator, negative_prompt="a dog")
    assert same(pictured(generator, data, guidance_scale=1.0), make(generator, 1, guidance_scale=1.0))


def test_the_file_says_whose_they_are(generators: Generators, tmp_path: Any) -> None:
    generator = generators("sdxl")
    path = tmp_path / "it.safetensors"
    path.write_bytes(embedded(generator))
    with safe_open(path, "pt") as opened:
        about = json.loads(opened.metadata()["darkroom"])
    shapes = {"prompt_embeds": [1, 77, 80], "negative_prompt_embeds": [1, 77, 80],
              "pooled_prompt_embeds": [1, 48], "negative_pooled_prompt_embeds": [1, 48]}  # fmt: skip
    digest = about.pop("encoders_sha256")
    assert len(digest) == 64
    assert about == {"family": "sdxl", "model": "tiny-sdxl", "shapes": shapes, "guidance": True}
    assert embedded(generator) == path.read_bytes()


def test_what_is_not_for_the_model_is_named(generators: Generators) -> None:
    sdxl, texts = generators("sdxl"), generators("sdxl").texts
    data = embedded(sdxl)
    tensors = load(data)

    def refused(data: bytes, said: str, guidance: bool = True, **changes: Any) -> None:
        with pytest.raises(InputUnfit, match=said):
            read_embeddings(data, replace(texts, **changes), guidance=guidance)

    def packed(**changes: torch.Tensor) -> bytes:
        about = {**texts.about(), "guidance": True}
        return save({**tensors, **changes}, {"darkroom": json.dumps(about)})

    refused(data, "of other text encoders .of tiny-sdxl.", digest="0" * 64)
    refused(data, "they are of the family sdxl, tiny-sdxl is of playground", family="playground")
    refused(embedded(generators("sd")), "they are of the family sd, .*prompt_embeds has the shape")
    refused(data, "they are in float32, this worker's are in bfloat16", dtype=torch.bfloat16)
    refused(save(tensors), "they are of the family None")
    refused(
        embedded(sdxl, guidance_scale=1.0), "negative_prompt_embeds, .* is missing; they were made without guidance"
    )
    refused(packed(prompt_embeds=torch.zeros(1, 77, 81)), r"has the shape \(1, 77, 81\), .* takes \(1, 77 n, 80\)")
    refused(packed(prompt_embeds=torch.zeros(1, 76, 80)), r"has the shape \(1, 76, 80\)")
    refused(packed(prompt_embeds=torch.zeros(1, 154, 80)), "not the same length")
    refused(packed(pooled_prompt_embeds=torch.zeros(1, 49)), r"\(1, 49\), .* takes \(1, 48\)")
    assert set(read_embeddings(packed(), texts, guidance=False)) == {"prompt_embeds", "pooled_prompt_embeds"}


def test_what_was_read_of_them_is_recorded_and_read_again(generators: Generators) -> None:
    generator = generators("sdxl")
    data = embedded(generator, **WORDS)
    objects, entry = {KEY: data}, generator.entry
    request = ask(generator, prompt=None, prompt_embeds=KEY, seed=None, seeds=[3])
    prepared, ticket = generator.prepare(request), Ticket()
    sources = prepared.kind.read(prepared, {"prompt_embeds": data})
    image = generator.generate(prepared, 3, sources, ignore, ticket).picture
    file, content_type = encode(image, "png", "")
    record = ImageRecord.of("job", 0, 3, image, file, content_type, str(ticket.placements))
    objects[record.key] = file
    digests = {"prompt_embeds": hashlib.sha256(data).hexdigest()}
    made = make_manifest("job", request, generator.model, [record], {}, digests)
    manifest = parse_manifest(made.to_bytes(), {entry.name: entry})
    replay = Replay(manifest, generator, objects.get)
    assert [one.bit_equal for one in replay.images()] == [True]
    assert replay.differences == []
    other = {**objects, KEY: embedded(generator)}
    replay = Replay(manifest, generator, other.get)
    assert [one.field for one in replay.differences] == ["inputs_sha256.prompt_embeds"]
    assert [one.bit_equal for one in replay.images()] == [False]
