"""A CLIP tokenizer of a few hundred tokens, in the files that the real ones come in.

CLIP's own byte pairs, so that any text can be encoded; its order too: the end of the text is the last id.
"""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from transformers.convert_slow_tokenizer import bytes_to_unicode

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"

#: Words that become one token each, so that prompts in tests differ in length from their letters.
WORDS = ("a", "of", "the", "cat", "dog", "red", "blue", "photo", "astronaut", "riding", "horse", "house", "sea")


def write_tokenizer(folder: Path, words: Sequence[str] = WORDS, pad: str = END) -> None:
    """Write vocab.json, merges.txt and both configs, these as the hub has them; 77 tokens, padded with `pad`.

    Each of `words` becomes one token; other text is spelled.
    """
    folder.mkdir(parents=True, exist_ok=True)
    special = {"bos_token": _special(START), "eos_token": _special(END), "unk_token": _special(END), "pad_token": pad}
    config = {
        **{
            name: {"__type": "AddedToken", **token} if isinstance(token, dict) else token
            for name, token in special.items()
        },
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": 77,
        "special_tokens_map_file": "./special_tokens_map.json",
        "tokenizer_class": "CLIPTokenizer",
    }
    merges = _merges(words)
    _write_json(folder / "vocab.json", {token: index for index, token in enumerate(_tokens(merges))})
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n")
    _write_json(folder / "tokenizer_config.json", config)
    _write_json(folder / "special_tokens_map.json", special)


def vocabulary_size(words: Sequence[str] = WORDS) -> int:
    """Tokens in all; the last one is the end of the text, as in the real vocabulary."""
    return len(_tokens(_merges(words)))


def _special(text: str) -> dict[str, object]:
    return {"content": text, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}


def _tokens(merges: list[tuple[str, str]]) -> list[str]:
    """CLIP's order: bytes, bytes that end a word, merges, then start and end."""
    letters = list(bytes_to_unicode().values())
    joined = dict.fromkeys("".join(pair) for pair in merges)  # two pairs may make the same token
    return [*letters, *(letter + WORD_END for letter in letters), *joined, START, END]


def _merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Joins for every word, each in turn from the pieces that the earlier joins leave of it.

    A join only ever follows the earlier ones, so no later word can undo an earlier one.
    """
    ranks: dict[tuple[str, str], int] = {}
    for word in words:
        pieces = _split(word, ranks)
        while len(pieces) > 1:
            ranks.setdefault((pieces[0], pieces[1]), len(ranks))
            pieces = _split(word, ranks)
    return list(ranks)


def _split(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding of one word: again and again the join of the lowest rank."""
    pieces = [*word[:-1], word[-1] + WORD_END]
    while pairs := [pair for pair in pairwise(pieces) if pair in ranks]:
        at = list(pairwise(pieces)).index(min(pairs, key=ranks.__getitem__))
        pieces[at : at + 2] = ["".join(pieces[at : at + 2])]
    return pieces


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
