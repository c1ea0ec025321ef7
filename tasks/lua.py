"""Puts what scripts share before each of them: only what it uses, since every call makes all of its functions anew."""

import re
from collections.abc import Iterator

_CHUNK = re.compile(r"^(?=local )", re.MULTILINE)
_NAMES = re.compile(r"local (?:function )?(\w+(?:, *\w+)*)")
_COMMENT = re.compile(r"--.*")
_WORD = re.compile(r"\w+")


def with_shared(shared: str, body: str) -> str:
    """`body`, after those `local` statements at the beginning of a line of `shared` that it needs, in their order."""
    return "".join([*reversed([*_needed(shared, body)]), body])


def _needed(shared: str, body: str) -> Iterator[str]:
    """Last first: what a statement uses stands before it."""
    words = _words(body)
    for chunk in reversed(_CHUNK.split(shared)):
        names = _NAMES.match(chunk)
        if names and words & set(_WORD.findall(names[1])):
            words |= _words(chunk)
            yield chunk


def _words(text: str) -> set[str]:
    return set(_WORD.findall(_COMMENT.sub("", text)))
