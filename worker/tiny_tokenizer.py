"""A CLIP tokenizer of a few hundred tokens, in the files that the real ones come in."""

import json
from pathlib import Path

from transformers.convert_slow_tokenizer import bytes_to_unicode

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"

#: Words that become one token each, so that prompts in tests differ in length from their letters.
_WORDS = ("a", "of", "the", "cat", "dog", "red", "blue", "photo", "astronaut", "riding", "horse", "house", "sea")


def write_tokenizer(folder: Path, pad: str = END) -> None:
    """Write vocab.json, merges.txt and both configs, these as the hub has them; 77 tokens, padded with `pad`."""
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
        "name_or_path": "openai/clip-vit-large-patch14",
        "special_tokens_map_file": "./special_tokens_map.json",
        "tokenizer_class": "CLIPTokenizer",
    }
    _write_json(folder / "vocab.json", {token: index for index, token in enumerate(_tokens())})
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in _merges())]) + "\n")
    _write_json(folder / "tokenizer_config.json", config)
    _write_json(folder / "special_tokens_map.json", special)


def vocabulary_size() -> int:
    """Tokens in all; the last one is the end of the text, as in the real vocabulary."""
    return len(_tokens())


def _special(text: str) -> dict[str, object]:
    return {"content": text, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}


def _tokens() -> list[str]:
    """CLIP's order: bytes, bytes that end a word, merges, then start and end."""
    letters = list(bytes_to_unicode().values())  # type: ignore[no-untyped-call]
    merged = [first + second for first, second in _merges()]
    return [*letters, *(letter + WORD_END for letter in letters), *merged, START, END]


def _merges() -> list[tuple[str, str]]:
    """Joins each word letter by letter from the left, with its end mark; every step once."""
    steps: dict[tuple[str, str], None] = {}
    for word in _WORDS:
        letters = [*word[:-1], word[-1] + WORD_END]
        for index in range(1, len(letters)):
            steps["".join(letters[:index]), letters[index]] = None
    return list(steps)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
