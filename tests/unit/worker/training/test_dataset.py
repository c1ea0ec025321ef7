"""Data sets that can be trained on: what is read of them, and what makes two the same."""

import hashlib
import re
import tracemalloc
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from darkroom.worker.training.dataset import read_files, read_zip

from .files import WANTED, good, picture, read, zipped


def captions(**files: bytes) -> list[str]:
    return [example.caption for example in read_files(files, **WANTED).examples]


def test_pictures_and_the_captions_beside_them() -> None:
    dataset = read(zipped(good(3)))
    assert sorted((example.name, example.caption) for example in dataset.examples) == [
        (f"{number}.png", f"picture {number}") for number in range(3)
    ]
    for example in dataset.examples:
        assert example.picture == good(3)[example.name]
        assert example.sha256 == hashlib.sha256(example.picture).hexdigest()
        assert (example.width, example.height) == (40, 40)


def test_a_zip_on_disk(tmp_path: Path) -> None:
    file = tmp_path / "data.zip"
    file.write_bytes(zipped(good(2)).getvalue())
    assert read_zip(file, **WANTED) == read(zipped(good(2)))


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "PNG"])
def test_formats_by_content(form: str) -> None:
    dataset = read(zipped({"a.jpg": picture(1, form=form), "b": picture(2, form=form)}), caption="a star")
    assert {example.name for example in dataset.examples} == {"a.jpg", "b"}


def test_sizes_are_those_of_upright_pictures() -> None:
    lying = picture(1, (60, 40), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")
    sizes = {
        (example.width, example.height) for example in read(zipped({"a": lying, "b": picture(2)}), caption="x").examples
    }
    assert sizes == {(40, 60), (40, 40)}


def test_the_digest_is_of_contents_alone() -> None:
    files = good(4)
    plain = read(zipped(files))
    later = [(zipfile.ZipInfo(f"folder/{name}", (2020, 1, 2, 3, 4, 6)), data) for name, data in files.items()]
    other = read(zipped(later[::-1]))
    assert other.digest == plain.digest
    assert [example.sha256 for example in other.examples] == [example.sha256 for example in plain.examples]
    assert read(zipped(files), trigger="sks").digest != plain.digest
    assert read(zipped(files | {"3.txt": b"another"})).digest != plain.digest
    assert read(zipped(files | {"3.png": picture(9)})).digest != plain.digest


def test_what_systems_leave_is_ignored() -> None:
    left = dict.fromkeys(
        ("__MACOSX/._0.png", ".DS_Store", "a/.DS_Store", "Thumbs.db", "desktop.ini", "README.md", ".git/config"), b"x"
    )
    assert read(zipped(good(2) | left)) == read(zipped(good(2)))


def test_a_byte_order_mark_and_white_space_are_no_part_of_a_caption() -> None:
    files = {"a.png": picture(1), "a.txt": b"\xef\xbb\xbfa red\r\n star \n", "b.png": picture(2), "b.txt": "é".encode()}
    assert sorted(captions(**files)) == ["a red star", "é"]


@pytest.mark.parametrize("key", ["text", "caption"])
def test_metadata(key: str) -> None:
    lines = (
        f'{{"file_name": "a.png", "{key}": "a\u2028star", "more": [1]}}\n\n{{"file_name": "in/b.png", "{key}": "b"}}'
    )
    files = {"d/a.png": picture(1), "d/in/b.png": picture(2), "d/metadata.jsonl": b"\xef\xbb\xbf" + lines.encode()}
    found = {example.name: example.caption for example in read(zipped(files)).examples}
    assert found == {"d/a.png": "a star", "d/in/b.png": "b"}


def test_one_caption_is_for_pictures_without_their_own() -> None:
    files = {"a.png": picture(1), "a.txt": b"own", "b.png": picture(2), "b.txt": b" \n", "c.png": picture(3)}
    found = {example.name: example.caption for example in read(zipped(files), caption="for all").examples}
    assert found == {"a.png": "own", "b.png": "for all", "c.png": "for all"}


@pytest.mark.parametrize(
    ("caption", "trigger", "expected"),
    [
        ("a star", "sks", "sks, a star"),
        ("a photo of SKS star", "sks", "a photo of SKS star"),
        ("a star of skslike form", "sks", "sks, a star of skslike form"),
        ("a star (v1.0)", "v1x0", "v1x0, a star (v1.0)"),
        ("in the style of  c++", "c++", "in the style of c++"),
        ("a star", " ", "a star"),
    ],
)
def test_the_trigger_word(caption: str, trigger: str, expected: str) -> None:
    dataset = read(zipped({"a.png": picture(1), "b.png": picture(2)}), caption=caption, trigger=trigger)
    assert {example.caption for example in dataset.examples} == {expected}


def test_names_that_macos_and_windows_write() -> None:
    """Accents as characters of their own, UTF-8 that is not said to be any, and backslashes."""
    files = {"cafe\u0301.png": picture(1), "caf\u00e9.txt": b"a", "in\\b.png": picture(2), "in/b.txt": b"b"}
    file = zipped(files)
    unsaid = without_utf8_flags(file)
    with zipfile.ZipFile(unsaid) as archive:
        assert "cafe\u0301.png" not in archive.namelist()
    for one in (file, unsaid):
        found = {example.name: example.caption for example in read(one).examples}
        assert found == {"caf\u00e9.png": "a", "in/b.png": "b"}


def without_utf8_flags(file: BytesIO) -> BytesIO:
    data = bytearray(file.getvalue())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in re.finditer(header, bytes(data)):
            data[found.start() + flags + 1] &= ~0x08
    return BytesIO(bytes(data))


def test_files_of_a_prefix_are_read_as_a_zip_is() -> None:
    assert read_files(good(3), **WANTED) == read(zipped(good(3)))


def test_pictures_are_not_kept_unpacked() -> None:
    """Ten pictures of 3 MB each would be 30 MB."""
    files = {f"{number}.png": picture(number, (1000, 1000)) for number in range(10)}
    file = zipped(files)
    tracemalloc.start()
    dataset = read(file, caption="a star")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(dataset.examples) == 10
    assert held < sum(map(len, files.values())) + 100_000
