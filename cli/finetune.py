"""`darkroom finetune`: a folder of pictures in, a LoRA out."""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from darkroom.cli.errors import UsageFault
from darkroom.cli.fields import FieldOption, kind_option, takes
from darkroom.cli.follow import sample_in_words
from darkroom.cli.options import AsJson
from darkroom.cli.pictures import Target, folder_named
from darkroom.cli.reading import local_path
from darkroom.cli.screen import Screen, duration, pairs, size
from darkroom.cli.submit import EXIT_JOB_FAILED, followed, introduce, show_submitted, tell_warnings
from darkroom.storage.archives import MOST_ENTRIES, is_archive, packed
from darkroom.tasks import Darkroom, DarkroomError, Event, Job, State, parse_request
from darkroom.tasks.requests import Finetune

EXAMPLES = """Examples:

darkroom finetune pictures/ --name dots --trigger dotty --model starter

darkroom finetune pictures.zip --name dots --caption "a dotty star" --steps 300 --rank 8

darkroom finetune pictures/ --name dots --batch-size 4 --dry-run

darkroom finetune pictures/ --name dots --class-prompt "a picture of a star" --num-class-images 50

darkroom finetune pictures/ --name dots --sample-prompt "a dotty star" --sample-every 50 --save dots/
"""

_NO_OPTIONS = ("kind", "dataset", "lane")


def _options() -> tuple[FieldOption, ...]:
    names = [name for name in Finetune.model_fields if name not in _NO_OPTIONS]
    return tuple(kind_option(Finetune, name) for name in names)


@takes(_options())
def finetune(
    dataset: Annotated[str, typer.Argument(help="A folder or a .zip of pictures with captions, or a storage key.")],
    *,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Show progress and end with the job.")] = True,
    save: Annotated[str | None, typer.Option(metavar="DIR", help="A folder for samples, LoRA and curve.")] = None,
    as_json: AsJson = False,
    **fields: Any,
) -> int:
    """Train a LoRA on pictures: a .txt beside each has its caption, or metadata.jsonl has all, or --caption is for all.

    The worker checks the pictures before the first step, and names all that is wrong.
    """
    screen = Screen(as_json=as_json)
    asked = {"kind": "finetune", **_given(fields)}
    if "://" in dataset:
        raise UsageFault(f"{dataset}: a link", hint="give a folder, a .zip, or the storage key of an uploaded one")
    key = dataset if dataset.startswith("inputs/") else None
    parse_request(asked | {"dataset": key or f"inputs/{asked.get('tenant', 'default')}/0.zip"})  # before the upload
    target = _target(save, wait=wait)
    with Darkroom() as client:
        if key is None:
            data = _packed(local_path(dataset, "DATASET"))
            screen.note(f"{dataset}: {size(len(data))} to upload")
            key = client.upload(data, tenant=asked.get("tenant", "default"))
        handle = client.submit(asked | {"dataset": key})
        if not wait:
            show_submitted(handle.submitted, screen)
            return 0
        introduce(handle.submitted, screen)
        seen = partial(_save_on_the_way, client=client, target=target, screen=screen)
        job = followed(client, handle.submitted, None, screen, seen)
        return _finish(job, target, screen)


def _target(save: str | None, *, wait: bool) -> Target | None:
    """Raises UsageFault where nothing can be saved there, or nobody waits for it."""
    if save is None:
        return None
    folder = folder_named(save)
    if not wait:
        raise UsageFault("--save and --no-wait at once", hint="`darkroom status ID` names what was made")
    return Target(folder)


def _save_on_the_way(event: Event, client: Darkroom, target: Target | None, screen: Screen) -> None:
    """Samples and snapshots as soon as they are stored; what cannot be had then is asked for again at the end."""
    if target is None:
        return
    if event.type == "job.image" or (event.type == "job.file" and _is_snapshot(event.data["role"])):
        try:
            job = client.get(event.job_id)
            snapshots = [file for file in job.files if _is_snapshot(file.role)]
            paths = target.save(job.images, snapshots)
            for made, path in zip((*job.images, *snapshots), paths, strict=True):
                if made.key == event.data["key"]:
                    screen.note(f"saved: {path}")
        except (OSError, DarkroomError) as error:
            screen.note(f"not saved yet: {error}")


def _is_snapshot(role: str) -> bool:
    return role.startswith("snapshot_")


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for option in _options():
        if fields.get(option.name) not in (None, []):
            found[option.name] = option.value(fields[option.name])
    if isinstance(seeds := found.get("seed"), list):
        if len(seeds) > 1:
            raise UsageFault(f"--seed: {len(seeds)} of them", hint="a training has one")
        found["seed"] = seeds[0]
    return found


def _packed(path: Path) -> bytes:
    """A zip as it is; a folder's files by their names, but for hidden ones. Raises UsageFault."""
    if path.is_file():
        data = path.read_bytes()
        if not is_archive(data):
            raise UsageFault(f"{path} is no .zip", hint="give a folder of pictures, or a .zip of it")
        return data
    if not path.is_dir():
        raise UsageFault(
            f"{path}: no such folder or .zip", hint="give a folder of pictures, each with a .txt beside it"
        )
    files = [one for one in sorted(path.rglob("*")) if one.is_file() and not _is_hidden(one.relative_to(path))]
    if not files or len(files) > MOST_ENTRIES:
        raise UsageFault(
            f"{path}: {len(files)} files", hint=f"a data set has 2 pictures at least, {MOST_ENTRIES} files at most"
        )
    return packed((one.relative_to(path).as_posix(), one.read_bytes()) for one in files)


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _estimate(job: Job) -> dict[str, Any]:
    """What a dry run found. Raises StorageFailed."""
    found: dict[str, Any] = next((json.loads(file.read()) for file in job.files if file.role == "estimate"), {})
    return found


def _in_words(estimate: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A line each."""
    sizes = (f"{one['pictures']} in {one['width']}x{one['height']}" for one in estimate["buckets"])
    yield "pictures", f"{estimate['pictures']}: {', '.join(sizes)}"
    each = f"{estimate['pictures_per_step']} a step, {estimate['epochs']:g} times each"
    yield "steps", f"{estimate['steps']}, pictures {each}"
    yield "a step", f"{estimate['seconds_per_step']:.3g} s, of {estimate['measured_steps']} measured"
    for what in ("class images", "samples"):
        if seconds := estimate.get(f"seconds_{what.replace(' ', '_')}"):
            yield what, f"about {duration(seconds)}"
    yield "in all", f"about {duration(estimate['seconds'])}, if the worker makes no pictures meanwhile"
    if estimate["memory_bytes"] is not None:
        of = "of the GPU's" if estimate["memory_of"] == "device" else "of the host's, estimated"
        yield "memory", f"{size(estimate['memory_bytes'])} {of}, beyond the model"
    yield "LoRA", size(estimate["lora_bytes"])
    yield "checkpoint", size(estimate["checkpoint_bytes"])


def _finish(job: Job, target: Target | None, screen: Screen) -> int:
    """Whatever became of the job, what it made is saved, if it was not on the way."""
    estimate, paths = _estimate(job), [str(path) for path in target.save(job.images, job.files)] if target else []
    if screen.as_json:
        more = {"estimate": estimate} if estimate else {}
        screen.line({**job.model_dump(mode="json"), "warnings": job.warnings, "saved": paths, **more})
        return 0 if job.state is State.SUCCEEDED else EXIT_JOB_FAILED
    words = [*(sample_in_words(one.step or 0, one.prompt) for one in job.images), *(file.role for file in job.files)]
    for place, said in zip(paths or [one.key for one in (*job.images, *job.files)], words, strict=True):
        screen.say(f"{place}  {said}")
    tell_warnings(set(job.warnings) - set(job.submit_warnings), job.model, screen)
    job.raise_for_state()
    if estimate:
        screen.result(estimate, pairs(_in_words(estimate)))
        return 0
    screen.note(f'use it: darkroom submit "..." --model {job.model} --lora {job.request.title}')
    return 0
