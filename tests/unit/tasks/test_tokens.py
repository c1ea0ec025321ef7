"""The bound on tokens, against the tokenizer that workers have."""

import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from darkroom.tasks.tokens import least_tokens, most_tokens
from darkroom.worker.models.tiny_tokenizer import write_tokenizer


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        (" \n\t\u3000", 0),
        ("a red fox", 3),
        ("it's", 2),
        ("IT'S", 2),
        ("rock'n'roll", 5),
        ("2024", 4),
        ("½ⅷ²", 3),
        ("a, b!", 4),
        ("snow_storm", 3),
        ("?!_-…", 1),
        ("a_-b", 3),
        ("naïve café", 2),
        ("cafe\u0301", 1),
        ("q\u0301", 2),
        ("İstanbul", 3),
        ("日本の灯台 🗼🗼", 2),
        ("<|endoftext|>", 1),
        ("a<|StartOfText|>b", 3),
        ("'<|endoftext|>'s", 3),
        ("a\u0378b", 1),
    ],
)
def test_tokens_at_the_least(text: str, tokens: int) -> None:
    assert least_tokens(text) == tokens


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return CLIPTokenizer.from_pretrained(folder)


def pieces(tokenizer: Any, text: str) -> int:
    """What the tokenizer looks for word pieces in."""
    backend = tokenizer.backend_tokenizer
    return len(backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text)))


PARTS = [
    "'s", "'T", "'Re", "'ll", "'", "!", "...", "_", "<|endoftext|>", "<|StartOfText|>", "<|", "e\u0301",
    "o\u0308\u0301", "İ", "ß", "ﬁ", "ǅ", "Ⅷ", "½", "٣", "ก็", "한", "\u1112\u1161", "日本", "\u200d", "\ufe0f",
    "🗼🗼", "9",
]  # fmt: skip
parts = st.sampled_from([*PARTS, " ", "\n", "\u3000"])
characters = st.characters(exclude_categories=["Cs", "Cc"])  # no prompt has control characters
texts = st.lists(parts | st.text(characters, max_size=3), max_size=20).map("".join)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), (" \n\t\u3000", 0), ("a red fox", 7), ("é", 2), ("e\u0301", 2), ("\u0130", 3), ("🗼", 4), ("\u0378", 6)],
)
def test_tokens_at_the_most(text: str, tokens: int) -> None:
    assert most_tokens(text) == tokens


@settings(max_examples=300, deadline=None)
@given(texts)
@example("İ" * 30)
@example("\u0958\u1e9e\ufb2c")
@example("\U0001d15e\u2126\u0390")
def test_it_is_never_less_than_the_tokenizer_counts(tokenizer: Any, text: str) -> None:
    """The tokenizer joins next to nothing: nearly every byte is a token."""
    counted = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids
    assert len(counted) <= most_tokens(text)


@settings(max_examples=300, deadline=None)
@given(texts)
@example("!'s ?!'ll 's's")
@example("'<|endoftext|>'s")
def test_it_is_never_more_than_the_tokenizer_counts(tokenizer: Any, text: str) -> None:
    counted = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids
    assert least_tokens(text) <= len(counted)
    assert least_tokens(text) <= pieces(tokenizer, text)


@settings(max_examples=300, deadline=None)
@given(texts)
def test_of_known_characters_it_is_what_the_tokenizer_looks_at(tokenizer: Any, text: str) -> None:
    """But for its own marks, which it takes out before."""
    known = "".join(c for c in text.replace("<|", "") if unicodedata.category(c) != "Cn")
    assert least_tokens(known) == pieces(tokenizer, known)
