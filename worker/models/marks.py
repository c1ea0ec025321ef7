"""Marks of compel's syntax that are written wrongly: its parser would take them for words, or for others, unsaid.

What may be prose stays prose: a bracket that is followed by a sentence's end, a dash with spaces, a ratio in brackets.
"""

import re
from collections.abc import Iterator
from difflib import get_close_matches

MOST_NESTED = 8  # parentheses in each other; far deeper ones end the parser's recursion
MOST_CHARACTERS = 2000  # of a text: the parser takes up to two milliseconds for each, of a core that others want

Found = tuple[int, str]  # the place, and what is wrong there

#: Escaped marks as nobody's characters, of the same length: neither a parser nor a search takes them for marks.
_HIDDEN = {mark: chr(0xFDD0 + number) * 2 for number, mark in enumerate('()"')}
_NUMBER = r"(?>[0-9]+\.?[0-9]*|\.[0-9]+)"
_WORDY = r"(?:nan|inf|infinity)\b"
#: Directly behind a bracket or a quotation mark, no weight: -1, +-, 1e3, 1,5, 1.2.3, 1.5++, nan, :1.4
_NO_WEIGHT = re.compile(
    rf"[-+]+(?:\.?[0-9]|{_WORDY})|\++-|-+\+|{_NUMBER}(?:\w|[.,][0-9]|[-+]+(?:[0-9\s]|$))|{_WORDY}|[:=*][-+]?[0-9]*\.[0-9]",
    re.IGNORECASE,
)
_OPERATORS = ("blend", "and", "attend", "swap")
_CALL = re.compile(r'(?P<closed>[)"]\s*)?(?P<dot>\.)(?P<gap>\s*)(?P<name>[A-Za-z_]+)(?P<late>\s*)(?P<bracket>[(\[{])')
#: Where the dot or the arguments are missing, and weights that are no numbers.
_HALF = re.compile(
    r'\)[\s,;:]*(?:blend|and|attend|swap)\(\s*[-+.0-9]|"\s*\)\.(?:blend|and|attend|swap)\b(?!\s*[(\[{])'
    rf"|\.(?:blend|and)\s*\([^()]*\b{_WORDY}"
)
_OTHER_WEIGHT = re.compile(r"\s*[-+]?(?:[0-9]+[.,]?[0-9]*|[.,][0-9]+)\s*")
_REFUSED = {
    ".swap(": "prompts are not swapped while a picture is made",
    "withLora(": "a LoRA is not named in the prompt",
    "useLora(": "a LoRA is not named in the prompt",
    "<lora:": "a LoRA is not named in the prompt",
}
_FORMS = 'operators are ("a cat", "a dog").blend(0.7, 0.3), ("a cat", "a dog").and() and (cat).attend(1.5)'


def hidden(text: str) -> str:
    r"""With `\(`, `\)` and `\"` as characters that are no marks; every place stays where it is."""
    return re.sub(r'\\([()"])', lambda found: _HIDDEN[found[1]], text)


def revealed(text: str) -> str:
    """What was hidden, as the plain characters that were meant."""
    for mark, sign in _HIDDEN.items():
        text = text.replace(sign, mark)
    return text


def faults(text: str) -> Iterator[Found]:
    """Of a text whose escaped marks are hidden."""
    if len(text) > MOST_CHARACTERS:
        yield MOST_CHARACTERS, f"a text with marks has at most {MOST_CHARACTERS} characters, this one has {len(text)}"
    pairs, unpaired = _paired(text)
    yield from unpaired
    yield from ((text.index(word), reason) for word, reason in _REFUSED.items() if word in text)
    for first, last in pairs:
        if text[first] == "(" and _has_other_weight(text[first + 1 : last]):
            yield first, "a weight is written behind the parenthesis: (word)1.5"
        if _NO_WEIGHT.match(text, last + 1):
            yield last + 1, "is no weight: (word)1.5 is one, (word)++ or (word)--, with a space behind it"
    yield from _wrong_calls(text)


def _paired(text: str) -> tuple[list[tuple[int, int]], list[Found]]:
    """Where parentheses and quotations begin and end; the first that does not."""
    opened, pairs = list[int](), list[tuple[int, int]]()
    quoted: int | None = None
    for mark in re.finditer(r'[()"]', text):
        at = mark.start()
        if mark[0] == '"':
            pairs += [] if quoted is None else [(quoted, at)]
            quoted = at if quoted is None else None
        elif mark[0] == "(":
            opened.append(at)
            if len(opened) > MOST_NESTED:
                return pairs, [(at, f"over {MOST_NESTED} parentheses in each other")]
        elif opened:
            pairs.append((opened.pop(), at))
        else:
            return pairs, [(at, "closes nothing; \\) is a plain parenthesis")]
    if quoted is not None:
        return pairs, [(quoted, 'is not closed; \\" is a plain quotation mark')]
    return pairs, [(at, "is not closed; \\( is a plain parenthesis") for at in opened[:1]]


def _has_other_weight(inner: str) -> bool:
    """Whether it ends as web UIs have it, `word:1.4`; `16:9` and `at 10:30` are no weights."""
    words, colon, weight = inner.rpartition(":")
    if not colon or not words.strip() or not _OTHER_WEIGHT.fullmatch(weight):
        return False
    return not re.fullmatch(r"[0-9.,:]+", words.split()[-1].lstrip("("))


def _wrong_calls(text: str) -> Iterator[Found]:
    """Operators that are none. With a space on either side of the name it may be the next sentence."""
    for found in _CALL.finditer(text):
        at, name = found.start("dot"), found["name"].lower()
        closed, gap, late = bool(found["closed"]), bool(found["gap"]), bool(found["late"])
        if found["name"] in _OPERATORS and not gap and found["bracket"] == "(":
            continue  # the parser's
        exact = name in (*_OPERATORS, "add")
        near = exact or (not gap and bool(get_close_matches(name, ("blend", "attend", "swap"), 1, 0.8)))
        if (closed and not gap and not late) or (near and (closed or not (gap or late)) and not (gap and late)):
            yield at, f"is no operator; {_FORMS}"
    if half := _HALF.search(text):
        yield half.start(), f"is no operator; {_FORMS}"
