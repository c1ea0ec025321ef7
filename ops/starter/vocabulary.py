"""The tokenizers: a token for every word of the captions, letters and bytes for everything else.

CLIP's own format (byte pairs), so that any text can be encoded; its order too: the end of the text is the last id.
"""

import json
from itertools import pairwise
from pathlib import Path

from transformers.convert_slow_tokenizer import bytes_to_unicode

from ops.starter.captions import words

START, END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"


def write_tokenizer(folder: Path) -> None:
    """Writes vocab.json, merges.txt and the configs: 77 tokens, padded with the end of the text."""
    folder.mkdir(parents=True, exist_ok=True)
    special = {"bos_token": _special(START), "eos_token": _special(END), "unk_token": _special(END), "pad_token": END}
    config = {
        **{name: {"__type": "AddedToken", **value} for name, value in special.items() if isinstance(value, dict)},
        "pad_token": END,
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": 77,
        "tokenizer_class": "CLIPTokenizer",
    }
    _write_json(folder / "vocab.json", {token: index for index, token in enumerate(_tokens())})
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in _merges())]) + "\n")
    _write_json(folder / "tokenizer_config.json", config)
    _write_json(folder / "special_tokens_map.json", special)


def size() -> int:
    """Tokens in all."""
    return len(_tokens())


def _tokens() -> list[str]:
    letters = list(bytes_to_unicode().values())  # type: ignore[no-untyped-call]
    joined = dict.fromkeys("".join(pair) for pair in _merges())  # two pairs may make the same token
    return [*letters, *(letter + _WORD_END for letter in letters), *joined, START, END]


def _merges() -> list[tuple[str, str]]:
    """Joins for every word, each in turn from the pieces that the earlier joins leave of it.

    A join only ever follows the earlier ones, so no later word can undo an earlier one.
    """
    ranks: dict[tuple[str, str], int] = {}
    for word in words():
        pieces = _split(word, ranks)
        while len(pieces) > 1:
            ranks.setdefault((pieces[0], pieces[1]), len(ranks))
            pieces = _split(word, ranks)
    return list(ranks)


def _split(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding of one word: again and again the join of the lowest rank."""
    pieces = [*word[:-1], word[-1] + _WORD_END]
    while pairs := [pair for pair in pairwise(pieces) if pair in ranks]:
        at = list(pairwise(pieces)).index(min(pairs, key=ranks.__getitem__))
        pieces[at : at + 2] = ["".join(pieces[at : at + 2])]
    return pieces


def _special(text: str) -> dict[str, object]:
    return {"content": text, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
