"""What `darkroom replay` says of pictures and files that were made again."""

from types import SimpleNamespace
from typing import Any

import pytest

from darkroom.cli.replay.verdict import Verdict
from darkroom.cli.screen import Screen
from darkroom.worker.images.differences import Difference

SPOILT = Difference("files.sheet.sha256", "a", "b")


def image(**fields: Any) -> Any:
    made = {"index": 0, "seed": 7, "equal": True, "bit_equal": True, "max_abs": 0, "mean_abs": 0.0, "faults": ()}
    return SimpleNamespace(**{**made, **fields})


def file(**fields: Any) -> Any:
    return SimpleNamespace(**{"role": "latents", "index": 0, "equal": True, "bit_equal": True, "faults": (), **fields})


def verdict(images: list[Any], files: list[Any], recorded: tuple[int, int] | None = None, samples: int = 0) -> Verdict:
    pictures, others = recorded or (len(images), len(files))
    manifest: Any = SimpleNamespace(
        job_id="j",
        model=SimpleNamespace(name="m"),
        images=[None] * pictures,
        files=[None] * others,
        samples=[None] * samples,
    )
    return Verdict(manifest, images, files, [], [], [])


@pytest.mark.parametrize(
    ("found", "equal"),
    [
        (verdict([image()], []), True),
        (verdict([image()], [file(), file(role="sheet", index=None)]), True),
        (verdict([], [file()]), True),
        (verdict([], []), False),
        (verdict([image()], [file(equal=False)]), False),
        (verdict([image(equal=False)], [file()]), False),
        (verdict([image()], [], (1, 1)), False),
        (verdict([], [file()], (1, 1)), False),
    ],
)
def test_equal_is_said_of_the_whole(found: Verdict, *, equal: bool) -> None:
    assert found.equal is found.as_dict()["bit_equal"] is equal


def test_each_file_has_its_word(capsys: pytest.CaptureFixture[str]) -> None:
    spoilt = file(role="sheet", index=None, equal=False, faults=(SPOILT,))
    found = verdict([image()], [file(), spoilt, file(role="mask", equal=False, bit_equal=False)])
    Screen().out.print(found.shown())
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[lines.index("FILE IMAGE RESULT") + 1 :][:3] == [
        "latents 0 equal, byte for byte",
        "sheet made again as recorded",
        "mask 0 not made again as recorded",
    ]
    assert "files.sheet.sha256 a b" in lines
    assert found.as_dict()["files"][1] == {"role": "sheet", "index": None, "equal": False, "bit_equal": True}


def test_without_files_nothing_is_said_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().out.print(verdict([image()], []).shown())
    assert "FILE" not in capsys.readouterr().out


def test_samples_of_a_training_are_said_not_to_be_made_again(capsys: pytest.CaptureFixture[str]) -> None:
    found = verdict([], [file(role="lora", index=None)], samples=3)
    Screen().out.print(found.shown())
    assert "3 samples not made again: they are of steps on the way" in capsys.readouterr().out
    assert (found.equal, found.as_dict()["samples_not_made_again"]) == (True, 3)
