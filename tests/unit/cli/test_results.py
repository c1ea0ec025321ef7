"""What the commands say of pictures and files that a job made."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import RenderableType

from darkroom.cli.jobs import _details, as_document, jobs_table, results_in_words
from darkroom.cli.pictures import Target
from darkroom.cli.screen import Screen
from darkroom.cli.submit import _finish, _seeds
from darkroom.tasks import Embed, Interpolate, Job, State, StoredFile, StoredImage, Txt2Img
from darkroom.tasks.requests import Finetune

FACTS: dict[str, Any] = {"sha256": "0" * 64, "bytes": 9}


class Memory:
    """A store that has its key under every key."""

    def get(self, key: str) -> bytes:
        return key.encode()


@pytest.fixture
def job() -> Job:
    """A job of three images: one has a picture and a file, one a file alone, one nothing; and a sheet."""
    image = StoredImage(index=0, key="j/0-aa.png", seed=5, width=8, height=4, content_type="image/png", **FACTS)
    places = [
        ("latents", 0, "latents-0-aa.safetensors"),
        ("latents", 1, "latents-1-aa.safetensors"),
        ("sheet", None, "sheet-aa.png"),
    ]
    files = [
        StoredFile(role=role, index=index, key=f"j/{name}", content_type="application/octet-stream", **FACTS)
        for role, index, name in places
    ]
    for made in (image, *files):
        made.within(Memory)  # type: ignore[arg-type]
    request = Txt2Img(prompt="a cat", model="m", seeds=[5, 6, 7])
    return Job(
        id="j", tenant="default", state=State.SUCCEEDED, model="m", lane="interactive", kind="txt2img",
        request=request, created_at=datetime.now(UTC), images=[image], files=files,
    )  # fmt: skip


def shown(table: RenderableType, capsys: pytest.CaptureFixture[str]) -> list[str]:
    Screen().out.print(table)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_status_lists_files_behind_pictures(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(_details(job, None), capsys)
    assert lines[lines.index("image j/0-aa.png 8x4 seed 5 9 bytes") + 1 :][:3] == [
        "file j/latents-0-aa.safetensors latents of image 0 9 bytes",
        "file j/latents-1-aa.safetensors latents of image 1 9 bytes",
        "file j/sheet-aa.png sheet 9 bytes",
    ]


def test_an_image_counts_as_done_by_a_picture_or_a_file(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    assert "2/3" in shown(jobs_table([job], 200), capsys)[1]


def test_programs_read_files_as_they_read_pictures(job: Job) -> None:
    files = as_document(job)["files"]
    assert [(file["role"], file["index"]) for file in files] == [("latents", 0), ("latents", 1), ("sheet", None)]
    assert set(files[0]) == {"role", "index", "key", "sha256", "bytes", "content_type"}


def test_submit_saves_files_beside_the_pictures(job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["0-aa.png", "latents-0-aa.safetensors", "latents-1-aa.safetensors", "sheet-aa.png"]
    assert _finish(job, Target(f"{tmp_path}/new/"), Screen()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path}/new/0-aa.png  8x4  seed 5"
    assert lines[3] == f"{tmp_path}/new/sheet-aa.png  sheet  9 bytes"
    assert [(tmp_path / "new" / name).read_text() for name in names] == [f"j/{name}" for name in names]
    assert _finish(job, Target(f"{tmp_path}/new/"), Screen(as_json=True)) == 0
    assert json.loads(capsys.readouterr().out)["saved"] == [f"{tmp_path}/new/{name}" for name in names]


def test_submit_names_the_keys_where_nothing_is_saved(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    assert _finish(job, None, Screen()) == 0
    assert capsys.readouterr().out.splitlines()[2] == "j/latents-1-aa.safetensors  latents of image 1  9 bytes"


def test_frames_that_share_a_seed_tell_it_once(job: Job) -> None:
    request = Interpolate(prompt="a cat", prompt_to="a dog", model="m", seed=5, frames=3)
    frames = [job.images[0].model_copy(update={"index": index}) for index in range(3)]
    walk = job.model_copy(update={"request": request, "images": frames, "files": []})
    assert list(results_in_words(walk)) == ["8x4  seed 5", "8x4", "8x4"]
    assert _seeds(walk.seeds) == ", seed 5"


def test_embeddings_are_of_no_image(job: Job) -> None:
    file = job.files[0].model_copy(update={"role": "embeddings"})
    alone = job.model_copy(update={"request": Embed(prompt="a cat", model="m"), "images": [], "files": [file]})
    assert list(results_in_words(alone)) == ["embeddings  9 bytes"]


def test_a_sample_says_of_which_step_it_is(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    request = Finetune(dataset="inputs/default/0.zip", name="dots", seed=5, model="m")
    sample = job.images[0].model_copy(update={"step": 50, "prompt": "a dotty star"})
    training = job.model_copy(update={"request": request, "images": [sample], "files": []})
    assert list(results_in_words(training)) == ["8x4  seed 5  sample of step 50, 'a dotty star'"]
    assert "0/1" in shown(jobs_table([training], 200), capsys)[1]
    assert as_document(training)["images"][0]["step"] == 50
    assert "step" not in as_document(job)["images"][0]
