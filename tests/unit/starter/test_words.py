"""Captions say what a scene shows; the tokenizer knows their words, and takes any other text."""

from pathlib import Path

import numpy as np
import pytest
from transformers import CLIPTokenizer

from darkroom.worker.models.tiny_tokenizer import END, vocabulary_size, write_tokenizer
from ops.starter.captions import caption, plain_caption, words
from ops.starter.scenes import Scene, Thing, draw_lot


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, words())
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def test_the_plain_caption_says_everything() -> None:
    pair = Scene(
        (Thing("star", "red", "striped", "small"), Thing("ring", "orange")), "blue", "sketch", relation="above"
    )
    assert plain_caption(pair) == "a sketch of a small striped red star above an orange ring on a blue background"
    one = Scene((Thing("moon", "white", "dotted", "large"),), "black", position="top")
    assert plain_caption(one) == "a large dotted white moon at the top on a black background"


def test_captions_follow_from_the_seed_and_vary() -> None:
    scene = draw_lot(np.random.default_rng(0), pair=True)
    said = [caption(scene, np.random.default_rng(seed)) for seed in range(50)]
    assert said == [caption(scene, np.random.default_rng(seed)) for seed in range(50)]
    assert len(set(said)) > 40


def test_every_word_of_the_captions_is_one_token(tokenizer: CLIPTokenizer) -> None:
    assert [word for word in words() if len(_tokens(tokenizer, word)) != 1] == []


def test_captions_use_known_words_only() -> None:
    rng = np.random.default_rng(2)
    said = [caption(draw_lot(rng, pair=index % 2 == 0), rng) for index in range(300)]
    assert set(" ".join(said).replace(",", " , ").split()) <= set(words())


def test_the_end_of_the_text_is_the_highest_id_and_not_2(tokenizer: CLIPTokenizer) -> None:
    assert tokenizer.convert_tokens_to_ids(END) == vocabulary_size(words()) - 1 == len(tokenizer) - 1 > 2
    assert tokenizer("a red star", padding="max_length").input_ids[4:] == [vocabulary_size(words()) - 1] * 73


@pytest.mark.parametrize("text", ["a Quagga, naïve 🦓", "", "чёрный квадрат", "RED\nstar\x00", "x" * 500])
def test_any_text_is_encoded(tokenizer: CLIPTokenizer, text: str) -> None:
    ids = tokenizer(text, padding="max_length", truncation=True).input_ids
    assert len(ids) == 77
    assert max(ids) == vocabulary_size(words()) - 1
    assert min(ids) >= 0


def test_case_does_not_matter(tokenizer: CLIPTokenizer) -> None:
    assert _tokens(tokenizer, "A Red STAR") == _tokens(tokenizer, "a red star")


def test_the_files_are_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_tokenizer(tmp_path / name, words())
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "other" / file.name).read_bytes()


def _tokens(tokenizer: CLIPTokenizer, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return found
