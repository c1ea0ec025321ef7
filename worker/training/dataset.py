"""The pictures and captions that a LoRA is trained on, read and checked before the first step.

A data set is a zip, or files by relative name. Pictures are PNG, JPEG or WebP, by content, in any folders. A caption is
the text file beside a picture (`cat.txt` for `cat.png`), or a line of `metadata.jsonl` as Hugging Face's image folders
have it (https://huggingface.co/docs/datasets/image_dataset): `{"file_name": "cat.png", "text": "a cat"}`, or `caption`
in place of `text`. What systems leave in folders is ignored: hidden files, `__MACOSX`, `Thumbs.db`, `desktop.ini`,
`README.md`. Whatever else is there is a fault: it may be a picture that somebody believes to train on.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from darkroom.storage.errors import InputError, InputNotAnImage
from darkroom.storage.images import open_picture
from darkroom.tasks.errors import Fault
from darkroom.worker.errors import DatasetInvalid
from darkroom.worker.training.archive import unpack
from darkroom.worker.training.buckets import MOST_RATIO
from darkroom.worker.training.captions import MOST_CHARACTERS, Captions, is_caption, with_trigger
from darkroom.worker.training.collected import DATASET, Collected, collect
from darkroom.worker.training.names import told

#: A LoRA learns what its pictures have in common; what one has in common with itself is all of it.
LEAST_PICTURES = 2

_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c", b"\x1f\x8b", b"\xfd7zXZ\0")


_SUBJECT = re.compile(r"\Athe input(?:'s)? ")  # the file's name stands in its place
_NO_PICTURES = ("nested_archive", InputNotAnImage.code)


@dataclass(frozen=True)
class Example:
    """A picture's file as it was given, and its caption, with the trigger word.

    `sha256` is of the file; width and height (pixels) are those of the picture when it is upright.
    """

    name: str
    picture: bytes
    caption: str
    sha256: str
    width: int
    height: int


@dataclass(frozen=True)
class Dataset:
    """`digest`: of the contents of pictures and their captions, whatever their names and order. So is the order."""

    examples: tuple[Example, ...]
    digest: str


@dataclass(frozen=True)
class _Wanted:
    caption: str | None
    trigger: str | None
    resolution: int
    tokens: Callable[[str], int] | None
    most_tokens: int


def read_zip(
    file: Path | BinaryIO,
    *,
    caption: str | None,
    trigger: str | None,
    resolution: int,
    tokens: Callable[[str], int] | None,
    most_tokens: int,
) -> Dataset:
    """The data set in a zip; pictures stay packed, no two are decoded at a time.

    `caption` is for pictures that have none of their own. `trigger` is put before captions that lack it. `resolution`
    (pixels) is the side of the square to train with. `tokens` counts those of a caption, of which the text encoders
    read `most_tokens`; None: nobody counts. Raises DatasetInvalid, which tells all that is wrong.
    """
    return _checked(unpack(file), _Wanted(caption, trigger, resolution, tokens, most_tokens))


def read_files(
    files: Mapping[str, bytes],
    *,
    caption: str | None,
    trigger: str | None,
    resolution: int,
    tokens: Callable[[str], int] | None,
    most_tokens: int,
) -> Dataset:
    """The data set in files by relative name, such as the objects under a prefix; all else as `read_zip`."""
    return _checked(collect(files), _Wanted(caption, trigger, resolution, tokens, most_tokens))


def _checked(collected: Collected, wanted: _Wanted) -> Dataset:
    pictures = {name: data for name, data in collected.files.items() if not is_caption(name)}
    offered = {*pictures, *(name for name in collected.refused if not is_caption(name))}
    captions = Captions(collected.files, offered)
    found, faults = _pictures(pictures, wanted.resolution)
    texts = {name: with_trigger(captions.get(name) or wanted.caption or "", wanted.trigger) for name in pictures}
    bare = [name for name in pictures if not (captions.get(name).strip() or (wanted.caption or "").strip())]
    faults += [*collected.faults, *captions.faults]
    faults += _number(len(offered) - sum(fault.code in _NO_PICTURES for fault in faults))
    faults += _missing([name for name in bare if name not in captions.unread], len(pictures))
    faults += [fault for name in pictures for fault in _too_long(name, texts[name], wanted)]
    if faults:
        raise DatasetInvalid(sorted(faults, key=lambda fault: (fault.field != DATASET, fault.field)))
    examples = [Example(name, pictures[name], texts[name], *rest) for name, rest in found.items()]
    return dataset_of(examples)


def dataset_of(examples: Iterable[Example]) -> Dataset:
    """A data set of pictures that were looked at before."""
    ordered = sorted(examples, key=lambda example: (example.sha256, example.caption))
    content = [[example.sha256, example.caption] for example in ordered]
    return Dataset(tuple(ordered), hashlib.sha256(json.dumps(content).encode()).hexdigest())


def _pictures(pictures: Mapping[str, bytes], resolution: int) -> tuple[dict[str, tuple[str, int, int]], list[Fault]]:
    """Digest, width and height of each, and what is wrong with the others."""
    found, faults, names = dict[str, tuple[str, int, int]](), list[Fault](), dict[str, str]()
    for name, data in sorted(pictures.items()):
        digest = hashlib.sha256(data).hexdigest()
        first = names.setdefault(digest, name)
        if first != name:
            faults.append(Fault(told(name), "picture_twice", f"is the same picture as {told(first)}"))
            continue
        try:
            width, height = _size(data)
        except InputError as error:
            faults.append(_unreadable(name, data, error))
            continue
        found[name] = (digest, width, height)
        faults += _unfit(name, width, height, resolution)
    return found, faults


def _size(data: bytes) -> tuple[int, int]:
    """Of the upright picture, which is decoded to its end. Raises InputError."""
    with open_picture(data) as picture:
        return picture.width, picture.height


def _unreadable(name: str, data: bytes, error: InputError) -> Fault:
    if data.startswith(_ARCHIVES):
        why = "is an archive, which is not unpacked; put its files in its place"
        return Fault(told(name), "nested_archive", why)
    return Fault(told(name), error.code, _SUBJECT.sub("", error.message, count=1)[:160])


def _unfit(name: str, width: int, height: int, resolution: int) -> Iterator[Fault]:
    if 2 * min(width, height) < resolution:
        why = f"has {width}x{height} pixels; to train at {resolution} its shorter side needs {-(-resolution // 2)}"
        yield Fault(told(name), "picture_too_small", why)
    if max(width, height) > 2 * MOST_RATIO * min(width, height):
        why = f"has {width}x{height} pixels, of which over half would be cut off; cut it to {2 * MOST_RATIO}:1 at most"
        yield Fault(told(name), "picture_too_narrow", why)


def _number(pictures: int) -> Iterator[Fault]:
    if not pictures:
        yield Fault(DATASET, "no_pictures", "has no pictures; put PNG, JPEG or WebP files into it")
    elif pictures < LEAST_PICTURES:
        why = f"has {pictures} picture; at least {LEAST_PICTURES} are needed, 10 to 30 are usual"
        yield Fault(DATASET, "too_few_pictures", why)


def _missing(names: list[str], pictures: int) -> Iterator[Fault]:
    if names and len(names) == pictures:
        yield Fault(DATASET, "caption_missing", f"has no captions; {_GIVE_ONE}")
    else:
        yield from (Fault(told(name), "caption_missing", f"has no caption; {_GIVE_ONE}") for name in names)


_GIVE_ONE = "put a text file beside each picture, or give one `caption` for all"


def _too_long(name: str, text: str, wanted: _Wanted) -> Iterator[Fault]:
    if len(text) > MOST_CHARACTERS:
        yield Fault(told(name), "caption_too_long", f"its caption has over {MOST_CHARACTERS:,} characters")
    elif wanted.tokens and (tokens := wanted.tokens(text)) > wanted.most_tokens:
        why = f"its caption has {tokens} tokens, of which the model reads {wanted.most_tokens}; shorten it"
        yield Fault(told(name), "caption_too_long", why)
