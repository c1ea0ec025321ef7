"""`darkroom finetune`, from a folder to a picture with what it taught."""

import os
import subprocess
from pathlib import Path
from typing import IO

import pytest

from tests.acceptance.conftest import MODEL, Call, Installation
from tests.nursery import nursery
from tests.unit.worker.training.files import good, zipped

OWNER = ("--tenant", "trainer")  # what other tests list are the LoRAs of other tenants
QUICK = (*OWNER, "--model", MODEL, "--steps", "2", "--rank", "2", "--resolution", "64", "--seed", "1")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, data in {**good(3), ".DS_Store": b"x"}.items():
        (folder / name).write_bytes(data)
    return folder


def test_a_folder_becomes_a_lora_and_it_says_how_to_use_it(
    call: Call, darkroom: Installation, pictures: Path, tmp_path: Path
) -> None:
    told = call("finetune", str(pictures), "--name", "dots", *QUICK)
    assert told.code == 0, told.err
    job_id, *files = told.out.split("\n")
    assert len(job_id) == 36 and [line.split()[-1] for line in files if line] == ["lora", "loss"]
    assert "step 2 of 2, loss" in told.err and "image" not in told.err
    assert f'use it: darkroom submit "..." --model {MODEL} --lora dots' in told.err
    made = call(
        "submit", "a dot", *OWNER, "--model", MODEL, "--lora", "dots", "--steps", "2", "--save", str(tmp_path / "a.png")
    )
    assert made.code == 0, made.err
    assert "dots" in call("loras", "list", *OWNER).out
    taken = call("finetune", str(pictures), "--name", "dots", *QUICK)
    assert (taken.code, "there is a LoRA 'dots' already" in taken.err) == (8, True)


def test_a_dry_run_says_what_it_would_take_and_takes_no_name(
    call: Call, darkroom: Installation, pictures: Path
) -> None:
    told = call("finetune", str(pictures), "--name", "dry", "--dry-run", "--sample-prompt", "a star", *QUICK)
    assert told.code == 0, told.err
    job_id, file, *table = told.out.splitlines()
    assert file.endswith("  estimate") and "use it" not in told.err
    names = [line.split("  ")[0] for line in table]
    assert names == ["pictures", "steps", "a step", "samples", "in all", "memory", "LoRA", "checkpoint"]
    assert "3: 3 in 64x64" in table[0] and "the host's, estimated" in table[5]
    assert "dry" not in call("loras", "list", *OWNER).out
    refused = call("save", job_id)
    assert (refused.code, "dry run" in refused.out) == (2, True)


def test_samples_on_the_way_are_saved_with_their_steps(
    call: Call, darkroom: Installation, pictures: Path, tmp_path: Path
) -> None:
    asked = ("--sample-prompt", "a red, dotty star", "--sample-every", "2", "--save", str(tmp_path / "made"))
    told = call("finetune", str(pictures), "--name", "sampled", *QUICK, *asked)
    assert told.code == 0, told.err
    _, *lines = told.out.strip().split("\n")
    words = [line.partition("  ")[2] for line in lines]
    assert words == ["sample of step 0, 'a red, dotty star'", "sample of step 2, 'a red, dotty star'", "lora", "loss"]
    assert all(Path(line.partition("  ")[0]).is_file() for line in lines)
    assert "sample of step 2, 'a red, dotty star' is stored" in told.err and "sample 1 of 1" in told.err


def test_what_a_training_shows_is_saved_while_it_goes_on(
    call: Call, darkroom: Installation, pictures: Path, tmp_path: Path
) -> None:
    long = (
        "--steps",
        "20000",
        "--sample-prompt",
        "a star",
        "--sample-every",
        "20000",
        "--save",
        str(tmp_path / "made"),
    )
    command = (nursery().python, "-m", "darkroom.cli", "finetune", str(pictures), "--name", "long", *QUICK, *long)
    with subprocess.Popen(
        command,
        env={**os.environ, **darkroom.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as training:
        assert training.stdout is not None and training.stderr is not None
        job_id = training.stdout.readline().strip()
        sample = saved(training.stderr)
        assert call("save", job_id).code == 0
        snapshot = saved(training.stderr)
        roles = [one["role"] for one in call("status", job_id, "--json").json["files"]]
        (role,) = [one for one in roles if one != "checkpoint"]
        assert role.startswith("snapshot_") and role in call("status", job_id).out
        fetched = call("fetch", job_id, "--file", role, "--save", str(tmp_path / "fetched"))
        assert (fetched.code, fetched.out.split("  ")[1]) == (0, role)
        assert Path(fetched.out.split("  ")[0]).read_bytes() == snapshot.read_bytes()
        everything = call("fetch", job_id, "--save", str(tmp_path / "all"), "--json").json["saved"]
        assert {sample.name, snapshot.name} <= {Path(path).name for path in everything}
        missing = call("fetch", job_id, "--file", "lora", "--save", str(tmp_path))
        assert missing.code == 2 and role in missing.err
        assert call("status", job_id, "--json").json["state"] == "running"
        assert call("cancel", job_id).code == 0
        training.communicate()
    assert training.returncode == 8


def saved(told: IO[str]) -> Path:
    """What is saved next."""
    lines = list[str]()
    for line in told:
        if line.startswith("saved: "):
            return Path(line.removeprefix("saved: ").strip())
        lines.append(line)
    pytest.fail(f"it ended: {lines}")


def test_class_prompts_are_options_with_commas_of_their_own(call: Call, darkroom: Installation, pictures: Path) -> None:
    asked = ("--class-prompt", "a star, in red", "--class-prompt", "a circle", "--num-class-images", "3")
    told = call("finetune", str(pictures), "--name", "kept", *asked, *QUICK)
    assert told.code == 0, told.err
    assert [line.split()[-1] for line in told.out.split("\n")[1:] if line] == ["lora", "loss", "prior"]
    assert "of 3" in told.err and "step 2 of 2, loss" in told.err
    none = call("finetune", str(pictures), "--name", "kept", "--num-class-images", "3", *QUICK)
    assert none.code == 2 and "--num-class-images: is for pictures of class_prompts" in none.err


def test_a_zip_and_no_wait(call: Call, darkroom: Installation, tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    path.write_bytes(zipped(good(2)).getvalue())
    told = call("finetune", str(path), "--name", "zipped", "--no-wait", *QUICK)
    assert told.code == 0 and len(told.out.strip()) == 36
    assert call("watch", told.out.strip()).code == 0
    assert (call("save", told.out.strip()).code, call("sample", told.out.strip()).code) == (7, 2)
    assert call("save", "nope", "--json").json["results"][0]["outcome"] == "not_found"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere/", "--name", "a"], "no such folder or .zip"),
        (["pictures", "--name", "../a"], "--name: is no name"),
        (["pictures"], "--name: is missing"),
        (["pictures", "--name", "a", "--rank", "0", "--learning-rate", "nan"], "--rank: "),
        (["empty", "--name", "a"], "0 files"),
        (["0.txt", "--name", "a"], "0.txt is no .zip"),
        (["https://example.com/set.zip", "--name", "a"], "set.zip: a link"),
        (["pictures", "--name", "a", "--seed", "1", "--seed", "2"], "--seed: 2 of them"),
        (["pictures", "--name", "a", "--sample-prompt", " ", "--sample-every", "0"], "--sample-prompt: 0: is empty"),
        (["pictures", "--name", "a", "--save", ""], "names no folder"),
        (["pictures", "--name", "a", "--save", "made", "--no-wait"], "--no-wait at once"),
    ],
)
def test_what_is_wrong_is_told_before_the_upload(
    call: Call, darkroom: Installation, pictures: Path, arguments: list[str], words: str
) -> None:
    (pictures.parent / "empty").mkdir()
    (pictures.parent / "0.txt").write_text("a star")
    given = arguments[0] if "://" in arguments[0] else str(pictures.parent / arguments[0])
    told = call("finetune", given, *arguments[1:], "--model", MODEL)
    assert told.code == 2
    assert words in told.err and "Traceback" not in told.err and "to upload" not in told.err
