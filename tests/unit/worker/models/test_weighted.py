"""Weights and blends in compel's syntax: what they make of the embeddings, and what is no such text."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from darkroom.storage.tensors import MOST
from darkroom.tasks.catalogue import Family
from darkroom.worker.errors import PromptSyntax
from darkroom.worker.images.generate import Generator
from darkroom.worker.models.weighted import fault_of
from darkroom.worker.models.words import Words
from tests.unit.worker.conftest import FAMILIES, Generators

Encode = Callable[..., dict[str, torch.Tensor]]


def encoder(generator: Generator) -> Encode:
    def encode(prompt: str, negative: str | None = "", **fields: Any) -> dict[str, torch.Tensor]:
        words = Words(prompt, negative, **{"syntax": "compel", "long": "chunk", **fields})
        with torch.no_grad():
            return generator.model.family.encode_prompt(generator._encoding, words).conditioning

    return encode


@pytest.fixture(scope="module", params=FAMILIES)
def encode(request: pytest.FixtureRequest, generators: Generators) -> Encode:
    family: Family = request.param
    return encoder(generators(family))


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("text", ["a red cat", "", "the sea " * 60, "the sea " * 300])
def test_a_text_without_marks_is_read_as_it_stands(encode: Encode, text: str) -> None:
    assert equal(encode(text), encode(text, syntax="plain"))
    assert equal(encode("a cat", text), encode("a cat", text, syntax="plain"))


def test_weights_go_away_from_the_empty_text_and_towards_it(encode: Encode) -> None:
    """compel: above 1 away from the empty text, below 1 towards the text without the word."""
    plain, more, less, none = (
        encode(text)["prompt_embeds"] for text in ("a red cat", "a (red)1.5 cat", "a (red)0.5 cat", "a (red)0 cat")
    )
    empty = encode("")["prompt_embeds"]
    place = 2  # start, a, red
    assert torch.allclose(more[0, place], empty[0, place] + 1.5 * (plain[0, place] - empty[0, place]), atol=1e-5)
    assert torch.equal(more[0, 1], plain[0, 1])
    assert 0 < (less - none).norm() < (plain - none).norm()
    assert 0 < (less - plain).norm() < (plain - none).norm()


def test_a_blend_is_in_between(encode: Encode) -> None:
    cat, dog = encode("a red cat"), encode("a blue dog")
    for name, blended in encode('("a red cat", "a blue dog").blend(0.75, 0.25)').items():
        if not name.startswith("negative"):
            assert torch.allclose(blended, 0.75 * cat[name] + 0.25 * dog[name], atol=1e-5)


def test_a_conjunction_is_one_after_the_other_and_both_sides_are_as_long(encode: Encode) -> None:
    found, cat, dog = encode('("a cat", "a dog").and()', "fog"), encode("a cat", "fog"), encode("a dog")
    assert torch.equal(found["prompt_embeds"], torch.cat([cat["prompt_embeds"], dog["prompt_embeds"]], 1))
    negative = torch.cat([cat["negative_prompt_embeds"], encode("")["prompt_embeds"]], 1)
    assert torch.equal(found["negative_prompt_embeds"], negative)


def test_a_long_one_has_weights_to_its_end(encode: Encode) -> None:
    long = "the sea " * 60
    plain, more = (encode(long + end)["prompt_embeds"] for end in ("red", "(red)1.5"))
    assert plain.shape == more.shape
    changed = [place for place in range(plain.shape[1]) if not torch.equal(plain[0, place], more[0, place])]
    assert changed == [77 + 1 + 120 - 75]
    assert encode(long + "(red)1.5", long="cut")["prompt_embeds"].shape[1] == 77


def test_it_goes_with_second_prompts_skipped_layers_and_no_guidance(generators: Generators) -> None:
    encode = encoder(generators("sdxl"))
    whole = encode("a (red)1.5 cat", prompt_2="the (sea)1.3", clip_skip=1)
    for less in ({"prompt_2": "the sea"}, {"clip_skip": None}, {"prompt": "a red cat"}):
        fields: dict[str, Any] = {"prompt": "a (red)1.5 cat", "prompt_2": "the (sea)1.3", "clip_skip": 1, **less}
        assert not equal(whole, encode(**fields))
    assert not [name for name in encode("a (red)1.5 cat", guidance=False) if name.startswith("negative")]


def test_words_of_no_weight_are_not_pooled(generators: Generators) -> None:
    encode = encoder(generators("sdxl"))
    assert torch.equal(encode("a (red)0 cat")["pooled_prompt_embeds"], encode("a cat")["pooled_prompt_embeds"])
    assert torch.equal(encode("a (red)2 cat")["pooled_prompt_embeds"], encode("a red cat")["pooled_prompt_embeds"])


def test_the_text_encoders_stay_as_they_were(generators: Generators) -> None:
    generator = generators("sdxl")
    encoder(generator)("a cat")  # of any first use transformers keeps that its hooks are there
    parts = [
        part for name, part in generator.model.components.items() if name.startswith(("text_encoder", "tokenizer"))
    ]
    before = [{name: id(value) for name, value in vars(part).items()} for part in parts]
    encoder(generator)('("a (red)0.5 cat", "a dog").blend(0.5, 0.5)', prompt_2="the (sea)1.5 " * 40)
    assert [{name: id(value) for name, value in vars(part).items()} for part in parts] == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a (red cat", "at character 3, '.red cat': is not closed"),
        ("a red) cat", "at character 6, '. cat': closes nothing"),
        ('a "red cat', "at character 3, '.red cat': is not closed"),
        ("((((((((((a))))))))))", "at character 9, .* over 8 parentheses"),
        ("a (red:1.5) cat", "at character 3, .* behind the parenthesis"),
        ("a cat.swap(dog)", "at character 6, .* not swapped"),
        ("a cat withLora(x, 1)", "at character 7, .* LoRA"),
        ('("a cat", "a dog").blend(1)', "at character 19, '.blend.1.'.*cannot be read"),
        ('("a cat" "a dog").blend(1, 1)', "at character 18, '.blend.*such as"),
        ("a (cat).attend(x)", "at character 8, '.attend"),
        ('("a,b", "c").and(), and more', r"at character 19, ', and more': cannot be read \(Expected end"),
        ("x" * 2001, "at character 2001, 'x': a text with marks has at most 2000 characters, this one has 2001"),
        ("()", "at character 1, .*it has no words"),
    ],
)
def test_what_cannot_be_read_to_its_end_is_named_with_its_place(text: str, said: str) -> None:
    fault = fault_of("negative_prompt", text)
    assert fault and (fault.field, fault.code) == ("negative_prompt", "prompt_syntax")
    assert re.search(said, fault.message)


def test_escaped_marks_are_plain_text_to_the_end(generators: Generators) -> None:
    encode = encoder(generators("sd"))
    assert equal(encode(r"a .and\(b\) \"c\""), encode('a .and(b) "c"', syntax="plain"))
    weighed = encode(r'("a \(red\) .and\(b\) cat", "a dog").blend(1, 0)')
    assert torch.allclose(weighed["prompt_embeds"], encode("a (red) .and(b) cat", syntax="plain")["prompt_embeds"])


@pytest.mark.parametrize("field", ["prompt", "negative_prompt", "prompt_2", "negative_prompt_2"])
def test_what_comes_of_the_reading_names_the_field(generators: Generators, field: str) -> None:
    texts = {"prompt": "a cat", "negative": "a dog", field.replace("negative_prompt", "negative"): "(a)0 (b)0.1 " * 140}
    texts = {"negative_prompt_2" if name == "negative_2" else name: text for name, text in texts.items()}
    with pytest.raises(PromptSyntax, match=rf"^{field}: takes"):
        encoder(generators("sdxl"))(**texts)


@pytest.mark.parametrize(
    "text",
    [
        "a (cat)" + "9" * 60,
        "a (cat)1" + "0" * 30,
        "a cat" + "+" * 900,
        '("a cat", "a dog").blend(1, -1)',
        '("a cat", "a dog").blend(1000000, 1, no_normalize)',
        "(a)0 (b)0.1 " * 140,
    ],
)
def test_what_gives_no_numbers_of_use_or_takes_for_ever_is_refused(generators: Generators, text: str) -> None:
    with pytest.raises(PromptSyntax):
        encoder(generators("sd"))(text)


PARTS = [
    "(",
    ")",
    '"',
    "a",
    " cat",
    ",",
    ".",
    "1.5",
    "0",
    "+",
    "--",
    ".blend(",
    ".and()",
    ".attend(",
    ":",
    "\\(",
    "<|endoftext|>",
]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=8).map("".join))
@example("( )0.5 a")
@example("(,)0.5")
@example("(<|endoftext|>)0.5 a")
@example("a+ ()0 cat")
def test_any_text_is_read_or_refused(generators: Generators, text: str) -> None:
    encode = encoder(generators("sd"))
    if fault_of("prompt", text):
        return
    try:
        found = encode(text)["prompt_embeds"]
    except PromptSyntax:
        return
    assert (found.abs() <= MOST).all()
    assert found.shape[1] % 77 == 0
