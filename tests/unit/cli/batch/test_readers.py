"""Files of batches: JSON lines and CSV, good and bad, in flat memory."""

import csv
import io
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.cli.batch import lines, table
from darkroom.cli.batch.lines import FileRefused, Line
from darkroom.cli.batch.survey import read, survey
from darkroom.cli.requests import MAX_LINE
from darkroom.tasks import InvalidRequest, parse_request

TABLE, JSONL = Path("requests.csv"), Path("requests.jsonl")


def lines_of(content: bytes, path: Path, **defaults: Any) -> list[Line]:
    return list(read(io.BytesIO(content), path, defaults))


def fault(line: Line) -> tuple[str, str]:
    """The one fault: its field and code."""
    assert isinstance(line.found, InvalidRequest)
    (found,) = line.found.faults
    return found.field, found.code


def refusal(content: bytes, path: Path) -> FileRefused:
    with pytest.raises(FileRefused) as caught:
        lines_of(content, path)
    return caught.value


def test_json_lines_win_over_the_defaults() -> None:
    content = b'\xef\xbb\xbf{"custom_id": "a", "prompt": "x"}\n\n{"prompt": "y", "tenant": "bob"}'
    first, second = lines_of(content, JSONL, tenant="alice")
    assert (first.number, first.custom_id, first.named) == (1, "a", True)
    assert first.found == {"kind": "txt2img", "prompt": "x", "tenant": "alice"}
    assert (second.number, second.named) == (3, False)
    assert second.custom_id.startswith("3-")
    assert second.found == {"kind": "txt2img", "prompt": "y", "tenant": "bob"}


def test_an_id_of_number_and_digest_is_the_same_whatever_the_defaults_and_another_for_another_line() -> None:
    content = b'{"prompt": "x"}\n{"prompt": "x"}\n{"prompt": "y"}\n'
    ids = [line.custom_id for line in lines_of(content, JSONL)]
    assert len(set(ids)) == 3
    assert ids == [line.custom_id for line in lines_of(content, JSONL, width=64)]
    assert ids[0].split("-")[1] == ids[1].split("-")[1] != ids[2].split("-")[1]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", "not_json"),
        (b"[1]", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'{"prompt": "a", "prompt": "b"}', "not_json"),
        ('{"prompt": "Gemälde"}'.encode("latin-1"), "not_utf8"),
        (b'{"prompt": "' + b"a" * MAX_LINE + b'"}', "too_long"),
        (b'{"custom_id": 5, "prompt": "a"}', "invalid_id"),
        (b'{"custom_id": "", "prompt": "a"}', "invalid_id"),
        (b'{"custom_id": "a\\nb", "prompt": "a"}', "invalid_id"),
        (b'{"custom_id": " a", "prompt": "a"}', "invalid_id"),
        (json.dumps({"custom_id": "x" * 129, "prompt": "a"}).encode(), "invalid_id"),
    ],
)
def test_a_bad_json_line_is_a_fault_of_its_own(line: bytes, code: str) -> None:
    found = lines_of(line + b'\n{"prompt": "a"}\n', JSONL)
    assert (found[0].number, fault(found[0])[1]) == (1, code)
    assert found[1].found == {"kind": "txt2img", "prompt": "a"}


def test_cells_are_values_of_their_fields() -> None:
    content = (
        b"custom_id,prompt,width,seed,guidance_scale,hires.scale,hires.strength,metadata.channel,metadata.n,output,"
        b"batching,preserve_unmasked,seeds,loras,crop\n"
        b'a,"a ""red"" star,\nof two lines",64,7,3,1.5,0.4,#art,5,"image,latents",solo,FALSE,"1,2",cat:0.5,"0,64"\n'
        b"b,x,wide,,,,,,,,,,,,\n"
    )
    first, second = lines_of(content, TABLE)
    assert (first.number, first.custom_id, second.number, second.custom_id) == (2, "a", 4, "b")
    assert isinstance(first.found, dict)
    del first.found["kind"]
    assert first.found == {
        "prompt": 'a "red" star,\nof two lines',
        "width": 64,
        "seed": 7,
        "guidance_scale": 3.0,
        "hires": {"scale": 1.5, "strength": 0.4},
        "metadata": {"channel": "#art", "n": "5"},
        "output": ["image", "latents"],
        "batching": "solo",
        "preserve_unmasked": False,
        "seeds": [1, 2],
        "loras": ["cat:0.5"],
        "crop": [0, 64],
    }
    assert second.found == {"kind": "txt2img", "prompt": "x", "width": "wide"}


def test_json_in_a_cell() -> None:
    content = b'prompt,hires,metadata,seeds\nx,"{""scale"": 1.5}","{""a"": [1]}","[3,4]"\ny,"{bad",,\n'
    first, second = lines_of(content, TABLE)
    assert isinstance(first.found, dict)
    assert first.found["hires"] == {"scale": 1.5}
    assert first.found["metadata"] == {"a": [1]}
    assert first.found["seeds"] == [3, 4]
    assert isinstance(second.found, dict)
    with pytest.raises(InvalidRequest, match="hires"):
        parse_request(second.found)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_table_as_spreadsheets_write_it(mark: bytes, end: bytes) -> None:
    content = mark + end.join([b"", b"prompt,seed", "Gemälde,7".encode(), b",", b""])
    (line,) = lines_of(content, TABLE)
    assert line.found == {"kind": "txt2img", "prompt": "Gemälde", "seed": 7}
    assert line.number == 3


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"a red star,64\na blue star,64\n", "line 1 is no header: 'a red star,64'"),
        (b"\n\na red star\n", "line 3 is no header"),
        (b"prompt;seed\nx;1\n", "cells are separated by commas"),
        (b"prompt,sed\nx,1\n", "line 1: 'sed': no field of a request (did you mean seed?"),
        (b"prompt,hires.skale\nx,1\n", "'hires.skale': no field"),
        (b"prompt,width.a\nx,1\n", "'width.a': no field"),
        (b"prompt,prompt\nx,y\n", "'prompt': two columns of one field"),
        (b"prompt,hires,hires.scale\nx,,1\n", "'hires': two columns of one field"),
        (b"prompt,,seed\nx,,1\n", "line 1 is no header"),
        (b"", "the file is empty"),
        (b'"prompt\nx\n', "line 1: a quote that opens there"),
        ("prömpt\n".encode("latin-1"), "line 1, which is to be the header: is no text in UTF-8"),
        ("prompt\nx\n".encode("utf-16"), "line 1: the file is UTF-16"),
    ],
)
def test_a_table_without_a_header(content: bytes, named: str) -> None:
    assert named in str(refusal(content, TABLE))


@pytest.mark.parametrize(
    "rest",
    [b'"never', b'"never,1\n' + b"x,1\n" * MAX_LINE, b'"never\n"x",2\ny,2\n', b'"' + b"n" * 2 * MAX_LINE + b"\n"],
)
def test_a_quote_that_never_closes_is_named_by_the_line_where_it_opens(rest: bytes) -> None:
    found = refusal(b'prompt,seed\n"a\nb",1\n' + rest, TABLE)
    assert found.message.startswith("line 4: a quote")


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (b"a,b,c", "not_csv"),
        (b"a", "not_csv"),
        (b'"a"x,1', "not_csv"),
        (b"a\rb,1", "not_csv"),
        ("Gemälde,1".encode("latin-1"), "not_utf8"),
        (b"n" * 2 * MAX_LINE + b",1", "too_long"),
        (b'"' + b"n" * 2 * MAX_LINE + b'",1', "too_long"),
    ],
)
def test_a_bad_row_is_a_fault_of_its_own(row: bytes, code: str) -> None:
    first, second = lines_of(b"prompt,seed\n" + row + b"\nx,2\n", TABLE)
    assert (first.number, fault(first)) == (2, ("request", code))
    assert second.found == {"kind": "txt2img", "prompt": "x", "seed": 2}


def test_an_inch_in_a_cell_without_quotes_is_no_quote() -> None:
    (line,) = lines_of(b'prompt,seed\na 5" disk,2\n', TABLE)
    assert line.found == {"kind": "txt2img", "prompt": 'a 5" disk', "seed": 2}


class _Gigabyte(io.RawIOBase):
    """A file of one line of a gigabyte, and one more, of which nothing lies anywhere."""

    def __init__(self, before: bytes, after: bytes) -> None:
        self._parts: Iterator[bytes] = iter([before, *[b"x" * 2**20] * 1024, after])

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = next(self._parts, b"")
        buffer[: len(part)] = part
        return len(part)


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [(JSONL, b'{"prompt": "', b'"}\n{"prompt": "a"}\n'), (TABLE, b"prompt\n", b"\na\n")],
    ids=["jsonl", "csv"],
)
def test_a_line_of_a_gigabyte_is_never_in_memory(path: Path, before: bytes, after: bytes) -> None:
    file = io.BufferedReader(_Gigabyte(before, after), 2**20)  # a part must fit into its buffer
    tracemalloc.start()
    try:
        first, second = read(file, path, {})
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert fault(first)[1] == "too_long"
    assert second.found == {"kind": "txt2img", "prompt": "a"}
    assert most < 16 * 2**20


def test_ids_that_are_there_twice_are_named_with_all_of_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text("".join(f'{{"custom_id": "{name}", "prompt": "a"}}\n' for name in "abacab"))
    with pytest.raises(FileRefused, match="'a' in lines 1, 3, 5; 'b' in lines 2, 6"):
        survey(file, {})


def test_digests_that_are_alike_of_ids_that_are_not_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkroom.cli.batch.survey.key_of", len)
    file = tmp_path / "x.jsonl"
    file.write_text("".join(f'{{"custom_id": "{name}", "prompt": "a"}}\n' for name in "ab"))
    assert survey(file, {}).lines == 2


SURVEY = """
import sys, tracemalloc
from pathlib import Path
from darkroom.cli.batch.survey import survey
tracemalloc.start()
print(survey(Path(sys.argv[1]), {}).lines, tracemalloc.get_traced_memory()[1])
"""


def test_a_survey_of_many_lines_is_flat(tmp_path: Path) -> None:
    """More lines take no more than their ids' digests; in a process of its own, where no other thread's work counts."""
    most: list[int] = []
    for count in (2_000, 30_000):
        file = tmp_path / f"{count}.csv"
        with file.open("w") as out:
            out.write("custom_id,prompt\n")
            out.writelines(f"line-{n},a red star\n" for n in range(count))
        done = subprocess.run([sys.executable, "-c", SURVEY, file], capture_output=True, check=True)
        lines, peak = map(int, done.stdout.split())
        assert lines == count
        most.append(peak)
    assert most[1] - most[0] < 28_000 * 200


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), min_size=1).filter(str.strip)


@given(st.lists(TEXTS, min_size=1))
def test_what_a_csv_writer_writes_is_read(prompts: list[str]) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["prompt", "tenant"])
    writer.writerows([prompt, "alice"] for prompt in prompts)
    found = lines_of(out.getvalue().encode(), TABLE)
    assert [line.found for line in found] == [
        {"kind": "txt2img", "prompt": prompt, "tenant": "alice"} for prompt in prompts
    ]


@given(st.lists(st.binary() | st.sampled_from([b'"', b"\n", b",", b"prompt", b"\r", b"{}"])))
def test_no_bytes_are_more_than_faults(parts: list[bytes]) -> None:
    for path, content in ((TABLE, b"prompt,seed\n" + b"".join(parts)), (JSONL, b"".join(parts))):
        try:
            found = lines_of(content, path)
        except FileRefused:
            continue
        assert len({line.custom_id for line in found}) == len(found)


def test_the_bound_is_that_of_the_csv_module_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own, of 128 kB, would be met first."""
    (line,) = lines_of(b"prompt\n" + b"n" * (MAX_LINE - 100) + b"\n", TABLE)
    assert isinstance(line.found, dict)
    assert len(line.found["prompt"]) == MAX_LINE - 100
    assert table.MAX_LINE == lines.MAX_LINE == MAX_LINE
