"""What a model is told beside the prompt: second prompts, skipped layers, sizes, rescaled guidance."""

from typing import Any

import pytest
import torch

from darkroom.tasks.catalogue import Family
from darkroom.tasks.errors import InvalidRequest
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.errors import PromptSyntax
from darkroom.worker.images.generate import Generator
from darkroom.worker.models.words import Words
from tests.unit.worker.conftest import FAMILIES, Generators, ask, make, photo, same

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SDXL: tuple[Family, ...] = ("sdxl", "playground")
#: Of each a value that shows, with the families that have it.
WISHES: list[tuple[Family, dict[str, Any]]] = [
    *((family, {"prompt_2": "the sea"}) for family in SDXL),
    *((family, {"negative_prompt_2": "a dog", "negative_prompt": "a cat"}) for family in SDXL),
    *((family, {"original_size": [64, 16]}) for family in SDXL),
    *((family, {"crop": [0, 300]}) for family in SDXL),
    *((family, {"target_size": [1024, 512]}) for family in SDXL),
    *((family, {"guidance_rescale": 0.7, "guidance_scale": 9.0}) for family in ("sd", *SDXL)),  # type: ignore[misc]
    *((family, {"clip_skip": 1}) for family in SDXL),
]


def stock(generator: Generator, seed: int, **arguments: Any) -> torch.Tensor:
    """The latents of diffusers' own pipeline over the same weights, its own encoding included."""
    model = generator.model
    own = type(model.components["scheduler"]).from_config(model.components["scheduler"].config)
    pipe = model.family.pipeline("txt2img", {**model.components, "scheduler": own}, model.options)
    pipe.set_progress_bar_config(disable=True)
    size = {"height": 32, "width": 32, "num_inference_steps": 3, "output_type": "latent"}
    given = {"guidance_scale": generator.entry.defaults.guidance_scale, **size, **arguments}
    with torch.no_grad():
        found = pipe("a red fox", generator=torch.Generator("cpu").manual_seed(seed), **given)
    return found.images  # type: ignore[no-any-return]


def latents(generator: Generator, seed: int, **fields: Any) -> torch.Tensor:
    """The latents after the last step, in solo mode."""
    seen: list[torch.Tensor] = []
    make(generator, seed, on_step=lambda _step, _of, found: seen.append(found), **fields)
    return seen[-1]


@pytest.mark.parametrize(("family", "fields"), WISHES)
def test_each_shows_and_is_what_diffusers_gives(generators: Generators, family: Family, fields: dict[str, Any]) -> None:
    generator = generators(family)
    guided = {"guidance_scale": fields.get("guidance_scale", 4.0)}
    found = latents(generator, 1, **{**guided, **fields})
    plain = {name: value for name, value in {**guided, **fields}.items() if name in guided}
    assert not torch.equal(found, latents(generator, 1, **plain))
    names = {"crop": "crops_coords_top_left"}
    turned = {names.get(k, k): (v[1], v[0]) if isinstance(v, list) else v for k, v in {**guided, **fields}.items()}
    assert torch.allclose(found, stock(generator, 1, **turned), atol=1e-4)


@pytest.mark.parametrize("family", SDXL)
def test_all_of_them_work_together_and_from_a_picture(generators: Generators, family: Family) -> None:
    fields: dict[str, Any] = {name: value for one, wish in WISHES if one == family for name, value in wish.items()}
    whole = make(generators(family), 1, photo(1), strength=0.7, **fields)
    for name in fields.keys() - {"guidance_scale", "negative_prompt"}:
        less = {key: value for key, value in fields.items() if key != name}
        assert not same(whole, make(generators(family), 1, photo(1), strength=0.7, **less)), name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("negative", [None, "", "a dog", "the sea " * 50])
def test_short_prompts_have_the_bits_that_diffusers_gives(
    generators: Generators, family: Family, negative: str | None
) -> None:
    generator = generators(family)
    pipe, device = generator._encoding, torch.device("cpu")
    with torch.no_grad():
        for prompt, guidance in (("a red fox", True), ("the sea " * 50, True), ("a cat", False)):
            more = {"device": device, "num_images_per_prompt": 1, "do_classifier_free_guidance": guidance}
            stock = pipe.encode_prompt(prompt, negative_prompt=negative, **more)
            found = generator.model.family.encode_prompt(pipe, Words(prompt, negative, guidance)).conditioning
            assert len(found) == len([one for one in stock if one is not None])
            order = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
            pairs = [(found[name], one) for name, one in zip(order, stock, strict=False) if one is not None]
            assert all(torch.equal(one, other) for one, other in pairs)


def test_they_share_calls_with_plain_pictures_and_keep_their_bits(generators: Generators) -> None:
    generator = generators("sdxl")
    fields = {"prompt_2": "the sea", "crop": [8, 8], "guidance_rescale": 0.5, "clip_skip": 1}
    one, other = Ticket(), Ticket()
    groups: list[Any] = []
    one.on_call = other.on_call = lambda call: groups.append(call.group)
    make(generator, 1, ticket=one, **fields)
    make(generator, 1, ticket=other)
    assert len(set(groups)) == 1
    assert same(make(generator, 1, **fields), make(generator, 1, **fields))


def test_sd_takes_the_layer_before_the_last_through_the_final_norm(generators: Generators) -> None:
    """As diffusers' `clip_skip` does where it finds the norm: with transformers 5 it does not."""
    generator = generators("sd")
    pipe, encoder = generator._encoding, generator.model.components["text_encoder"]
    ids = pipe.tokenizer("a cat", padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.no_grad():
        states = encoder(ids, output_hidden_states=True).hidden_states
        for skip in (1, 2):
            found = generator.model.family.encode_prompt(pipe, Words("a cat", clip_skip=skip)).conditioning
            assert torch.equal(found["prompt_embeds"], encoder.final_layer_norm(states[-(skip + 1)]))
            whole = generator.model.family.encode_prompt(pipe, Words("a cat")).conditioning
            assert torch.equal(found["negative_prompt_embeds"], whole["negative_prompt_embeds"])


@pytest.mark.parametrize(("family", "most"), [("sd", 2), ("sdxl", 1), ("playground", 1)])
def test_a_layer_of_the_text_encoder_has_to_be_left(generators: Generators, family: Family, most: int) -> None:
    generator = generators(family)
    generator.prepare(ask(generator, clip_skip=most))
    with pytest.raises(InvalidRequest, match=f"3 layers: at most {most} can be passed over"):
        generator.prepare(ask(generator, clip_skip=most + 1))


def test_all_that_is_wrong_with_the_words_is_named_at_once(generators: Generators) -> None:
    generator = generators("sdxl")
    texts = dict.fromkeys(("prompt", "negative_prompt", "prompt_2", "negative_prompt_2"), "a (b")
    with pytest.raises(PromptSyntax) as caught:
        generator.prepare(ask(generator, prompt_syntax="compel", **texts))
    assert [fault.field for fault in caught.value.faults] == list(texts)
    with pytest.raises(InvalidRequest) as both:
        generator.prepare(ask(generator, prompt_syntax="compel", clip_skip=30, negative_prompt="a (b"))
    assert [(fault.field, fault.code) for fault in both.value.faults] == [
        ("clip_skip", "too_large"),
        ("negative_prompt", "prompt_syntax"),
    ]


def test_only_the_second_negative_prompt_leaves_the_first_empty() -> None:
    """Where diffusers would take zeros for both."""
    assert Words("a cat", negative_prompt_2="a dog") == Words("a cat", "", negative_prompt_2="a dog")
    assert Words("a cat").negative_prompt is None


def test_the_second_negative_prompt_is_read_alone_too(generators: Generators) -> None:
    generator = generators("sdxl")
    alone, both, none = (
        make(generator, 1, negative_prompt_2=second, negative_prompt=first)
        for second, first in (("a dog", None), ("a dog", ""), (None, None))
    )
    assert same(alone, both)
    assert not same(alone, none)


def test_a_cut_text_of_the_second_encoder_is_told_of(generators: Generators) -> None:
    long = "the sea " * 60
    for fields, warnings in (
        ({"prompt_2": long}, ["prompt_truncated"]),
        ({"negative_prompt_2": long}, ["prompt_truncated"]),
        ({"negative_prompt_2": long, "guidance_scale": 1.0}, []),
        ({"prompt": long, "prompt_2": "the sea"}, ["prompt_truncated"]),
        ({"prompt_2": "the sea"}, []),
    ):
        generator = generators("sdxl")
        assert generator.prepare(ask(generator, long_prompt="cut", **fields)).warnings == warnings


def test_texts_beyond_one_chunk_are_read_to_their_end(generators: Generators) -> None:
    """Each chunk as a text of its own; pooled is the first; the shorter side goes on with the empty text."""
    generator = generators("sdxl")
    pipe, encode = generator._encoding, generator.model.family.encode_prompt
    long = "the sea " * 60
    with torch.no_grad():
        found = encode(pipe, Words(long, "a dog", long="chunk"))
        first, second = (
            encode(pipe, Words(text)).conditioning for text in ("the sea " * 37 + "the", "sea" + " the sea" * 22)
        )
        empty = encode(pipe, Words("")).conditioning
        dog = encode(pipe, Words("a dog")).conditioning
    assert not found.cut
    assert torch.equal(
        found.conditioning["prompt_embeds"], torch.cat([first["prompt_embeds"], second["prompt_embeds"]], 1)
    )
    assert torch.equal(
        found.conditioning["negative_prompt_embeds"], torch.cat([dog["prompt_embeds"], empty["prompt_embeds"]], 1)
    )
    assert torch.equal(found.conditioning["pooled_prompt_embeds"], first["pooled_prompt_embeds"])


@pytest.mark.parametrize(("tokens", "chunks"), [(0, 1), (1, 1), (75, 1), (76, 2), (150, 2), (151, 3)])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_chunk_has_75_tokens(generators: Generators, family: Family, tokens: int, chunks: int) -> None:
    generator = generators(family)
    with torch.no_grad():
        found = generator.model.family.encode_prompt(generator._encoding, Words("a " * tokens, long="chunk"))
    shapes = {tensor.shape[1] for name, tensor in found.conditioning.items() if "pooled" not in name}
    assert shapes == {77 * chunks}


def test_long_prompts_share_calls_among_their_like(generators: Generators) -> None:
    groups: list[Any] = []
    for fields in (
        {"prompt": "the sea " * 60},
        {"prompt": "a cat", "negative_prompt": "a dog " * 50},
        {"prompt": "a cat"},
        {"prompt": "the sea " * 60, "long_prompt": "cut"},
    ):
        ticket = Ticket(on_call=lambda call: groups.append(call.group))
        make(generators("sdxl"), 1, ticket=ticket, num_inference_steps=1, **fields)
    long, another, short, cut = groups
    assert (long == another, short == cut, long == short) == (True, True, False)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_end_of_a_long_prompt_shows(generators: Generators, family: Family) -> None:
    long = "the sea " * 60
    one, other = (make(generators(family), 1, prompt=long + end) for end in ("cat", "dog"))
    assert not same(one, other)
    one, other = (make(generators(family), 1, prompt=long + end, long_prompt="cut") for end in ("cat", "dog"))
    assert same(one, other)
