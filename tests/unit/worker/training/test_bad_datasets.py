"""Data sets that nobody can train on: every fault is named, at once, and nothing is believed."""

import stat
import struct
import zipfile
import zlib
from io import BytesIO
from typing import ClassVar

import pytest

from darkroom.tasks.errors import Fault
from darkroom.worker.errors import DatasetInvalid
from darkroom.worker.training import archive, collected
from darkroom.worker.training.dataset import read_files

from .files import FLAGS, METHOD, OFFSET, UNPACKED, WANTED, good, patched, picture, read, zipped


def refused(file: BytesIO, **fields: object) -> DatasetInvalid:
    with pytest.raises(DatasetInvalid) as caught:
        read(file, **fields)
    return caught.value


def only_fault(file: BytesIO, **fields: object) -> Fault:
    (fault,) = refused(file, **fields).faults
    return fault


def png(width: int, height: int) -> bytes:
    """One that says to have this size, of a few bytes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


# pictures


@pytest.mark.parametrize(
    ("files", "code", "says"),
    [
        ({}, "no_pictures", "has no pictures"),
        ({".DS_Store": b"x"}, "no_pictures", "has no pictures"),
        ({"a.png": picture()}, "too_few_pictures", "has 1 picture; at least 2"),
    ],
)
def test_too_few(files: dict[str, bytes], code: str, says: str) -> None:
    fault = only_fault(zipped(files), caption="a star")
    assert (fault.field, fault.code) == ("dataset", code)
    assert says in fault.message


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (picture(7)[:-200], "input_corrupt", "ends within its IDAT"),
        (picture(7, form="JPEG")[:-100], "input_corrupt", "cannot be decoded"),
        (picture(7, form="JPEG")[:100], "input_corrupt", "header cannot be read"),
        (picture(7, form="WEBP")[:-20], "input_corrupt", "cannot be"),
        (picture(7, form="GIF"), "input_not_an_image", "is a GIF; accepted are PNG, JPEG and WebP"),
        (b"", "input_not_an_image", "is empty"),
        (b"# my pictures", "input_not_an_image", "is something else"),
        (png(30_000, 30_000), "input_bomb", "has 30000x30000 pixels, over the limit of 40000000"),
        (png(9_000, 9_000), "input_bomb", "has 9000x9000 pixels, over the limit of 40000000"),
        (png(2**31 - 1, 2**31 - 1), "input_bomb", "pixels"),
        (picture(7, (31, 300)), "picture_too_small", "31x300 pixels; to train at 64 its shorter side needs 32"),
        (
            picture(7, (161, 40)),
            "picture_too_narrow",
            "161x40 pixels, of which over half would be cut off; cut it to 4:1",
        ),
        (zipped(good(1)).getvalue(), "nested_archive", "is an archive, which is not unpacked"),
        (b"\x1f\x8b\x08", "nested_archive", "is an archive"),
    ],
)
def test_a_bad_picture(data: bytes, code: str, says: str) -> None:
    error = refused(zipped(good(2) | {"bad.png": data, "bad.txt": b"bad"}))
    codes = {fault.code: fault for fault in error.faults if fault.field == "bad.png"}
    assert {fault.field for fault in error.faults} == {"bad.png"}
    assert says in codes[code].message


def test_the_least_sizes_are_taken() -> None:
    files = {"a.png": picture(1, (32, 32)), "b.png": picture(2, (160, 40))}
    assert len(read(zipped(files), caption="x").examples) == 2


def test_the_same_picture_twice() -> None:
    fault = only_fault(zipped(good(3) | {"copies/again.png": picture(1), "copies/again.txt": b"another"}))
    assert (fault.field, fault.code, fault.message) == (
        "copies/again.png",
        "picture_twice",
        "is the same picture as 1.png",
    )


# captions


def test_captions_that_are_missing() -> None:
    files = good(4)
    del files["2.txt"]
    files["3.txt"] = b"\n"
    error = refused(zipped(files))
    assert [(fault.field, fault.code) for fault in error.faults] == [
        ("2.png", "caption_missing"),
        ("3.png", "caption_missing"),
    ]
    assert "put a text file beside" in error.message


def test_no_captions_at_all_are_one_fault() -> None:
    fault = only_fault(zipped({f"{number}.png": picture(number) for number in range(5)}), trigger="sks")
    assert (fault.field, fault.code) == ("dataset", "caption_missing")


@pytest.mark.parametrize(
    ("name", "data", "code", "says"),
    [
        ("1.txt", "café".encode("latin-1"), "caption_not_utf8", "is not UTF-8 (byte 0xe9 at 3); save it as UTF-8"),
        ("1.txt", "star".encode("utf-16"), "caption_not_utf8", "is not UTF-8 (byte 0xff at 0)"),
        ("1.txt", "star".encode("utf-16-le"), "caption_not_utf8", "is not UTF-8"),
        ("9.txt", b"alone", "caption_alone", "is beside no picture of its name"),
        ("metadata.jsonl", b"\xe9", "caption_not_utf8", "is not UTF-8"),
        ("metadata.jsonl", b"\n{", "metadata_invalid", "line 2: is no JSON"),
        ("metadata.jsonl", b"[" * 100_000, "metadata_invalid", "line 1: is no JSON"),
        ("metadata.jsonl", b"[]", "metadata_invalid", "line 1: is no JSON object"),
        ("metadata.jsonl", b'{"text": "x"}', "metadata_invalid", 'line 1: there is no "file_name"'),
        ("metadata.jsonl", b'{"file_name": "1.png"}', "metadata_invalid", 'line 1: there is neither a "text" nor'),
        ("metadata.jsonl", b'{"file_name": "1.png", "text": 3}', "metadata_invalid", "line 1: there is neither"),
        (
            "metadata.jsonl",
            b'{"file_name": "9.png", "text": "x"}',
            "metadata_invalid",
            "names no picture of the data set: 9",
        ),
        ("metadata.jsonl", b'{"file_name": "../1.png", "text": "x"}', "metadata_invalid", "names no picture"),
        ("metadata.jsonl", b'{"file_name": "1.png", "text": "\\ud800"}', "metadata_invalid", "half of a character"),
        ("metadata.jsonl", b"{}\n" * 4_001, "metadata_invalid", "has over 4,000 lines"),
    ],
)
def test_a_bad_file_of_captions(name: str, data: bytes, code: str, says: str) -> None:
    fault = only_fault(zipped(good(2) | {name: data}))
    assert (fault.field, fault.code) == (name, code)
    assert says in fault.message


def test_two_captions_for_one_picture() -> None:
    lines = b'{"file_name": "1.png", "text": "another"}\n{"file_name": "0.png", "text": "picture  0"}'
    fault = only_fault(zipped(good(2) | {"metadata.jsonl": lines}))
    assert (fault.field, fault.code) == ("1.png", "caption_twice")
    assert fault.message == "has a caption in 1.txt and another one in metadata.jsonl"


def test_a_caption_over_what_the_encoders_read() -> None:
    files = good(2) | {"1.txt": b"word " * 75}
    assert read(zipped(files))
    fault = only_fault(zipped(files), trigger="sks")
    assert (fault.field, fault.code) == ("1.png", "caption_too_long")
    assert "76 tokens, of which the model reads 75" in fault.message


def test_a_book_is_not_even_counted() -> None:
    def tokens(text: str) -> int:
        assert len(text) < 100
        return 1

    fault = only_fault(zipped(good(2) | {"1.txt": b"x" * 10_001}), tokens=tokens)
    assert fault.message == "its caption has over 10,000 characters"


# zips


@pytest.mark.parametrize(
    "data", [b"", b"no zip", picture(), zipped(good(2)).getvalue()[:-30], b"PK\x05\x06" + bytes(9)]
)
def test_no_zip(data: bytes) -> None:
    assert only_fault(BytesIO(data)).code == "zip_invalid"


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "in/../../a.png", "C:\\a.png", "..\\a.png", "\\a.png"])
def test_a_name_that_leads_out(name: str) -> None:
    fault = only_fault(zipped(good(2) | {name: picture(7)}))
    assert (fault.field, fault.code) == (name, "path_unsafe")


def test_a_file_without_a_name() -> None:
    nameless = zipped(good(2) | {"bad.png": picture(7)}).getvalue().replace(b"bad.png", b"\0ad.png")
    fault = only_fault(BytesIO(nameless))
    assert (fault.field, fault.code) == ("(a file without a name)", "path_unsafe")


def test_a_symbolic_link() -> None:
    link = zipfile.ZipInfo("bad.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    fault = only_fault(zipped([*good(2).items(), (link, b"/etc/passwd"), ("bad.txt", b"a caption")]))
    assert (fault.field, fault.code) == ("bad.png", "symlink")


def test_a_device() -> None:
    device = zipfile.ZipInfo("bad.png")
    device.create_system, device.external_attr = 3, (stat.S_IFCHR | 0o666) << 16
    assert only_fault(zipped([*good(2).items(), (device, b"")])).code == "no_file"


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        (FLAGS, 0x1, "encrypted"),
        (METHOD, 9, "packing_unknown"),
        (METHOD, zipfile.ZIP_LZMA, "packing_unknown"),
        (METHOD, zipfile.ZIP_STORED, "file_corrupt"),
    ],
)
def test_a_file_that_cannot_be_unpacked(field: int, value: int, code: str) -> None:
    fault = only_fault(patched(zipped(good(2) | {"bad.png": picture(7)}), "bad.png", field, "<H", value), caption="x")
    assert (fault.field, fault.code) == ("bad.png", code)


@pytest.mark.parametrize(("field", "value"), [(UNPACKED, 10), (OFFSET, 5), (OFFSET, 2**31 - 1)])
def test_a_directory_that_lies(field: int, value: int) -> None:
    fault = only_fault(patched(zipped(good(2) | {"bad.png": picture(7)}), "bad.png", field, "<I", value), caption="x")
    assert (fault.field, fault.code) == ("bad.png", "file_corrupt")


def test_a_directory_that_promises_gigabytes() -> None:
    """A promise refuses nothing either: what counts is what is there."""
    plain = zipped(good(2))
    assert read(patched(plain, "1.png", UNPACKED, "<I", 2**31)) == read(plain)


def test_bytes_that_were_turned_over() -> None:
    """Wherever a zip is damaged: a data set, or faults that say so."""
    data = zipped(good(2)).getvalue()
    codes = set()
    for place in range(0, len(data), 3):
        broken = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
        try:
            read(BytesIO(broken), caption="x")
        except DatasetInvalid as error:
            codes |= {fault.code for fault in error.faults}
    assert {"file_corrupt", "zip_invalid"} <= codes


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("again", ["1.png", "./1.png"])
def test_two_files_of_one_name(again: str) -> None:
    fault = only_fault(zipped([*good(2).items(), (again, picture(7))]))
    assert (fault.field, fault.code) == ("1.png", "name_twice")


def test_a_bomb_is_left_while_it_unpacks(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zipped(good(2) | {f"{number}.bmp": bytes(4_000_000) for number in range(10)})
    assert len(bomb.getvalue()) < 100_000
    taken: list[object] = []
    monkeypatch.setattr(Counted, "taken", taken)
    monkeypatch.setattr(archive.zipfile, "ZipFile", Counted)
    fault = only_fault(bomb)
    assert (fault.field, fault.code) == ("dataset", "zip_bomb")
    assert len(taken) < 9


class Counted(zipfile.ZipFile):
    """Notes what is opened."""

    taken: ClassVar[list[object]] = []

    def open(self, name: object, *arguments: object, **options: object) -> object:  # type: ignore[override]
        self.taken.append(name)
        return super().open(name, *arguments, **options)  # type: ignore[call-overload]


def test_a_bomb_that_says_it_is_small() -> None:
    """No more than it says is unpacked, and that does not fit its checksum."""
    bomb = patched(zipped(good(2) | {"bad.png": bytes(60_000_000)}), "bad.png", UNPACKED, "<I", 100)
    assert only_fault(bomb, caption="x").code == "file_corrupt"


def test_files_over_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collected, "MOST_FILE_BYTES", 50_000)
    files = good(2) | {"large.png": bytes(12_000_000)}  # whole it would be over what such a zip may unpack to
    for error in (refused(zipped(files), caption="x"), refused_files(files, caption="x")):
        assert [(fault.field, fault.code) for fault in error.faults] == [("large.png", "file_too_large")]
    monkeypatch.setattr(collected, "MOST_BYTES", 2_000)
    for error in (refused(zipped(good(9))), refused_files(good(9))):
        assert [(fault.field, fault.code) for fault in error.faults] == [("dataset", "too_large")]


def refused_files(files: dict[str, bytes], **fields: object) -> DatasetInvalid:
    with pytest.raises(DatasetInvalid) as caught:
        read_files(files, **{**WANTED, **fields})
    return caught.value


@pytest.mark.parametrize("number", [4_001, 100_000])
def test_too_many_files_are_told_before_any_is_unpacked(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a directory is made of them."""
    one = zipped({"0.png": b""}).getvalue()
    start, end = one.index(b"PK\x01\x02"), one.index(b"PK\x05\x06")
    many = one[:start] + one[start:end] * number + one[end:]
    monkeypatch.setattr(archive.zipfile, "ZipFile", None)
    monkeypatch.setattr(archive, "_PIECE", 1_000)  # entries lie across its ends
    fault = only_fault(BytesIO(many))
    assert (fault.field, fault.code) == ("dataset", "too_many_files")
    assert fault.message == "has over 4,000 files, the most that are read"
    assert refused_files(dict.fromkeys(map(str, range(4_001)), b"")).faults == [fault]


def test_as_many_files_as_are_read() -> None:
    files = good(2) | {f"__MACOSX/{number}": b"" for number in range(3_996)}
    assert len(read(zipped(files)).examples) == 2


# all at once


def test_every_fault_is_named_at_once() -> None:
    link = zipfile.ZipInfo("link.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    bad: dict[str, bytes] = {
        "../out.png": picture(20),
        "broken.png": picture(21)[:-100],
        "small.png": picture(22, (20, 20)),
        "same.png": picture(0),
        "latin.png": picture(23),
        "latin.txt": "é".encode("latin-1"),
        "uncaptioned.png": picture(24),
        "long.png": picture(25),
        "long.txt": b"word " * 80,
        "more.zip": zipped(good(1)).getvalue(),
        "film.gif": picture(26, form="GIF"),
    }
    beside = {f"{name}.txt": b"said" for name in ("broken", "small", "same", "link", "more", "film")}
    error = refused(zipped([*(good(2) | bad | beside).items(), (link, b"/etc/passwd")]))
    assert {fault.field: fault.code for fault in error.faults} == {
        "../out.png": "path_unsafe",
        "broken.png": "input_corrupt",
        "small.png": "picture_too_small",
        "same.png": "picture_twice",
        "latin.txt": "caption_not_utf8",
        "uncaptioned.png": "caption_missing",
        "long.png": "caption_too_long",
        "more.zip": "nested_archive",
        "film.gif": "input_not_an_image",
        "link.png": "symlink",
    }
    assert error.code == "dataset_invalid" and error.more == 0


def test_twenty_are_named_and_the_others_counted() -> None:
    error = refused(zipped(good(2) | {f"bad{number:02}.png": b"x%d" % number for number in range(33)}), caption="x")
    assert len(error.faults) == 20
    assert error.more == 13
    assert error.message.startswith("bad00.png: is something else") and error.message.endswith("; and 13 more")


def test_names_are_told_in_one_short_line() -> None:
    name = "x" * 500 + "\n\x1b[31m.png"
    (fault,) = refused_files(good(2) | {name: b"bad"}, caption="x").faults
    assert len(fault.field) < 90 and fault.field.isprintable() and fault.field.endswith("??[31m.png")
