"""Captions of a data set: from text files beside the pictures, from metadata.jsonl, and with a trigger word."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from darkroom.storage.archives import MOST_ENTRIES
from darkroom.tasks.errors import Fault
from darkroom.worker.training.names import clean_name, stem, told

METADATA = "metadata.jsonl"
TEXT = ".txt"
MOST_CHARACTERS = 10_000  # of a caption; no encoder reads nearly as many


def is_caption(name: str) -> bool:
    """Whether a file of this clean name holds captions."""
    return is_metadata(name) or name.lower().endswith(TEXT)


def is_metadata(name: str) -> bool:
    """Whether a file of this clean name holds those of its whole folder."""
    return name.rpartition("/")[2] == METADATA


def with_trigger(caption: str, trigger: str | None) -> str:
    """The caption with the trigger word in front, if it has it nowhere; white space as single spaces.

    Whether letters are large makes no difference: CLIP's tokenizers read them small.
    """
    caption, trigger = " ".join(caption.split()), " ".join((trigger or "").split())
    if not trigger or re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", caption, re.IGNORECASE):
        return caption
    return f"{trigger}, {caption}" if caption else trigger


class Captions:
    """What files say of pictures; `faults`: what is wrong with them. `unread`: pictures whose captions have faults."""

    def __init__(self, files: Mapping[str, bytes], pictures: Collection[str]) -> None:
        self.faults: list[Fault] = []
        self.unread: set[str] = set()
        self._texts: dict[str, tuple[str, str]] = {}  # the caption, and the file that it is from
        self._pictures = set(pictures)
        self._by_stem: dict[str, list[str]] = {}
        for picture in sorted(pictures):
            self._by_stem.setdefault(stem(picture), []).append(picture)
        for name in sorted(filter(is_caption, files)):
            read = self._read_metadata if is_metadata(name) else self._read_text
            read(name, files[name])

    def get(self, picture: str) -> str:
        """The picture's own caption; empty where it has none."""
        return self._texts.get(picture, ("", ""))[0]

    def _read_text(self, name: str, data: bytes) -> None:
        if not (pictures := self._by_stem.get(stem(name))):
            why = "is beside no picture of its name; take it out if it is no caption"
            self._tell(name, "caption_alone", why)
            return
        text = self._decoded(name, data)
        if text is None:
            self.unread.update(pictures)
            return
        for picture in pictures:
            self._add(picture, text, name)

    def _read_metadata(self, name: str, data: bytes) -> None:
        folder = name.removesuffix(METADATA)
        text = self._decoded(name, data)
        if text is None:
            self.unread.update(picture for picture in self._pictures if picture.startswith(folder))
            return
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        if len(lines) > MOST_ENTRIES:
            self._tell(name, "metadata_invalid", f"has over {MOST_ENTRIES:,} lines")
            return
        for number, line in lines:
            try:
                picture, caption = _entry(line, folder, self._pictures)
            except ValueError as error:
                self._tell(name, "metadata_invalid", f"line {number}: {error}")
            else:
                self._add(picture, caption, name)

    def _add(self, picture: str, text: str, source: str) -> None:
        if not text.strip():
            return
        there, before = self._texts.setdefault(picture, (text, source))
        if there.split() != text.split():
            self._tell(picture, "caption_twice", f"has a caption in {told(before)} and another one in {told(source)}")

    def _decoded(self, name: str, data: bytes) -> str | None:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            why = f"is not UTF-8 (byte 0x{data[error.start]:02x} at {error.start:,}); save it as UTF-8"
            self._tell(name, "caption_not_utf8", why)
            return None
        if "\0" in text:
            self._tell(name, "caption_not_utf8", "is not UTF-8 (it has characters of value 0); save it as UTF-8")
            return None
        return text

    def _tell(self, name: str, code: str, message: str) -> None:
        self.faults.append(Fault(told(name), code, message))


def _entry(line: str, folder: str, pictures: Collection[str]) -> tuple[str, str]:
    """Picture and caption of a line. Raises ValueError, which says why."""
    entry = _parsed(line)
    file_name = entry.get("file_name")
    if not isinstance(file_name, str):
        raise ValueError('there is no "file_name" with a text')
    picture = clean_name(folder + file_name)
    if picture not in pictures or picture is None:
        raise ValueError(f'"file_name" names no picture of the data set: {told(file_name)}')
    text = next(_texts(entry), None)
    if text is None or not isinstance(text, str):
        raise ValueError('there is neither a "text" nor a "caption" with a text')
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("the caption has half of a character (a lone surrogate)")
    return picture, text


def _parsed(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("is no JSON") from None
    if not isinstance(entry, dict):
        raise ValueError("is no JSON object")
    return entry


def _texts(entry: Mapping[str, Any]) -> Iterator[Any]:
    return (entry[key] for key in ("text", "caption") if key in entry)
