"""How many CLIP tokens a text has at the least and at the most: bounds that take no vocabulary.

CLIP's tokenizer composes a text, makes it lower case, and splits it into words, digits and runs of other characters;
each is one token or more (transformers, `models/clip/tokenization_clip.py`; openai/CLIP, `simple_tokenizer.py`).
"""

import re
import unicodedata

# Taken out before all else, one token each.
_MARKS = re.compile(r"<\|(?:start|end)oftext\|>")
# The tokenizer's own pattern, with one letter for all letters that it does not name, a nought for all numbers.
_PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|0|[^a-z0 ]+")


def _kind(point: int) -> str:
    """A character that stands for all of its kind."""
    character = chr(point)
    if character.isspace():
        return " "
    category = unicodedata.category(character)
    if category[0] == "N":
        return "0"
    if character.isascii():
        return character
    if category == "Cn":
        return ""  # to a newer Unicode it may be a letter or none: without it the pieces are not more
    return "a" if category[0] == "L" else "-"


class _Kinds(dict[int, str]):
    """For `str.translate`; does not grow with what strangers write."""

    def __missing__(self, point: int) -> str:
        return _kind(point)


_KINDS = _Kinds({point: _kind(point) for point in range(0x250)})  # Latin


def least_tokens(text: str) -> int:
    """Without start and end."""
    plain = unicodedata.normalize("NFC", text).lower().translate(_KINDS)
    between = _MARKS.split(plain)
    return len(between) - 1 + sum(len(_PIECES.findall(part)) for part in between)


def most_tokens(text: str) -> int:
    """Without start and end: a token a byte of what is no white space.

    CLIP's byte pairs begin with the bytes of a word, the last of them with its `</w>`, and every merge makes them fewer
    (openai/CLIP, `simple_tokenizer.py`, `bpe`); white space only parts words. Lower case may have more bytes than the
    upper one (U+0130 has), and what a newer Unicode makes of an unknown character at most three times as many (UAX #15,
    section 9).
    """
    composed = unicodedata.normalize("NFC", text)
    return sum(_most_bytes(character) for character in composed if not character.isspace())


def _most_bytes(character: str) -> int:
    if character.isascii():
        return 1
    times = 3 if unicodedata.category(character) == "Cn" else 1
    return times * max(len(form.encode("utf-8", "surrogatepass")) for form in (character, character.lower()))
