"""Jobs that make files beside their pictures, or instead of them: stored, told, swept, and named by later jobs."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
import redis
import torch
from PIL import Image
from safetensors.torch import load

from darkroom.storage import StorageSettings, errors, open_store
from darkroom.storage.inputs import read_file
from darkroom.tasks import Darkroom, Job, JobNotFound, State, TaskSettings
from darkroom.tasks.marks import adopt
from darkroom.tasks.operations import owner
from darkroom.worker.delivery.image_threads import ImageThreads
from darkroom.worker.delivery.runner import JobRunner
from darkroom.worker.delivery.storekeeper import StoreKeeper
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.manifest import Manifest, parse_manifest
from darkroom.worker.images.replay import Replay, ReplayedImage
from darkroom.worker.kinds.base import Kind, PreparedJob
from darkroom.worker.kinds.products import Produced, ProducedFile
from darkroom.worker.kinds.txt2img import Txt2ImgKind

from .conftest import Desk


class MakesFiles(Generator):
    """Beside each picture its latents; without pictures the latents alone."""

    pictures = True

    def generate(self, prepared: Any, seed: int, source: Any, on_step: Any, *more: Any) -> Produced:
        latents: list[torch.Tensor] = []

        def watched(step: int, of: int, tensor: torch.Tensor) -> None:
            latents[:] = [tensor]
            on_step(step, of, tensor)

        picture = super().generate(prepared, seed, source, watched, *more).picture
        file = ProducedFile.of_tensors("latents", {"latents": latents[0]}, seed=seed)
        return Produced(picture if self.pictures else None, [file])


def sheet_of(_kind: object, _prepared: PreparedJob, pictures: Iterable[Image.Image]) -> list[ProducedFile]:
    found, out = list(pictures), io.BytesIO()
    if not found:
        return []
    sheet = Image.new("RGB", (64 * len(found), 64))
    for place, picture in enumerate(found):
        sheet.paste(picture, (64 * place, 0))
    sheet.save(out, "PNG")
    return [ProducedFile("sheet", out.getvalue(), "png")]


@pytest.fixture
def desk(desk: Desk, generator: Generator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A desk whose generator makes files, three images side by side, and whose kind makes a sheet of all."""
    monkeypatch.setattr(Txt2ImgKind, "files_of_job", sheet_of)
    entry, making = generator.model.entry, MakesFiles(generator.model, generator.engine)
    threads = ImageThreads(3)
    yield replace(desk, around=replace(desk.around, generators={entry.name: making}, images=threads))
    threads.close()


def manifest_of(desk: Desk, job: Job) -> Manifest:
    assert job.result is not None
    catalogue = {name: generator.model.entry for name, generator in desk.around.generators.items()}
    return parse_manifest(desk.store.get(job.result.manifest), catalogue)


def test_what_a_job_with_files_leaves(desk: Desk) -> None:
    job = desk.run(num_images=3)
    assert (job.state, job.error, len(job.images)) == (State.SUCCEEDED, None, 3)
    assert [file.place for file in job.files] == ["latents/0", "latents/1", "latents/2", "sheet"]
    for file in job.files:
        assert sha256(file.read()).hexdigest() == file.sha256
        assert len(file.read()) == file.bytes
    assert load(job.files[0].read())["latents"].shape == (1, 4, 8, 8)
    sheet = Image.open(io.BytesIO(job.files[3].read()))
    first = Image.open(io.BytesIO(job.images[1].read()))
    assert sheet.crop((64, 0, 128, 64)).tobytes() == first.convert("RGB").tobytes()
    stored = {item.key for item in desk.store.list("")}
    assert stored == set(job.object_keys) and len(stored) == 8
    manifest = manifest_of(desk, job)
    assert [file.key for file in manifest.files] == [file.key for file in job.files]
    assert {file.calls for file in manifest.files} == {""}  # the pictures' records have them


def test_files_are_told_as_they_come_and_at_the_end(desk: Desk) -> None:
    job = desk.run(num_images=2)
    events = list(desk.client.watch(job.id))
    told = [event.data for event in events if event.type == "job.file"]
    files = [file.model_dump() for file in job.files]
    assert sorted(told, key=str) == sorted(files, key=str) and told[-1]["role"] == "sheet"
    assert events[-1].data["files"] == files


def test_the_same_job_makes_the_same_files(desk: Desk) -> None:
    one, other = (desk.run(num_images=2, batching="solo") for _ in range(2))
    assert [file.sha256 for file in one.files] == [file.sha256 for file in other.files]


def test_a_job_may_make_files_alone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MakesFiles, "pictures", False)
    job = desk.run(num_images=2)
    assert (job.state, job.images, [file.place for file in job.files]) == (
        State.SUCCEEDED,
        [],
        ["latents/0", "latents/1"],
    )
    manifest = manifest_of(desk, job)
    assert manifest.images == [] and all(file.calls for file in manifest.files)


def test_a_file_that_cannot_be_stored_ends_the_job(desk: Desk) -> None:
    def fall(key: str) -> None:
        if "/sheet-" in key:
            raise errors.StorageDenied(key)

    desk.store.before_put = fall
    job = desk.run(num_images=2)
    assert job.error is not None
    assert (job.state, job.error.code) == (State.FAILED, "storage_denied")
    kept = {*(image.key for image in job.images), *(file.key for file in job.files)}
    assert {item.key for item in desk.store.list(job.id)} == kept and len(kept) == 4


def test_a_role_twice_is_a_fault_of_the_kind(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Txt2ImgKind, "files_of_job", lambda *_: [ProducedFile("lora", bytes([n])) for n in (1, 2)])
    job = desk.run()
    assert job.error is not None
    assert (job.error.code, "file lora is listed twice" in job.error.message) == ("internal_error", True)


def test_files_of_an_attempt_that_came_to_nothing_are_swept(
    desk: Desk, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    """The lease runs out while a file is on its way; another worker ends the job with a file of its own."""

    def take_over(key: str) -> None:
        if "/latents-" not in key:
            return
        desk.store.before_put = lambda _: None
        job_id = key.partition("/")[0]
        raw.zadd(f"{task_settings.redis_prefix}leases", {job_id: 0})
        held = desk.hand().claim(job_id)
        theirs = desk.hand().file(held)
        desk.store.put(theirs.key, b"theirs", content_type=theirs.content_type)
        assert desk.hand().succeed(held)

    desk.store.before_put = take_over
    job = desk.run()
    assert (job.worker, [file.place for file in job.files]) == ("w", ["latents/0"])
    assert {item.key for item in desk.store.list(job.id)} == {job.files[0].key, *(image.key for image in job.images)}
    desk.client.delete(job.id)
    assert list(desk.store.list(job.id)) == []


def replayed(desk: Desk, job: Job, generator: Generator) -> tuple[Replay, list[ReplayedImage]]:
    replay = Replay(manifest_of(desk, job), generator, desk.store.get)
    return replay, list(replay.images())


@pytest.mark.parametrize("form", ["png", "jpeg"])
def test_files_are_made_again_bit_for_bit(desk: Desk, form: str) -> None:
    """The sheet, too: it is made of pictures as their files show them."""
    job = desk.run(num_images=3, num_inference_steps=3, output_format=form)
    replay, images = replayed(desk, job, desk.around.generators["tiny-sdxl"])
    assert [one.equal for one in images] == [True] * 3 and replay.differences == []
    places = [("latents", 0), ("latents", 1), ("latents", 2), ("sheet", None)]
    assert [(file.role, file.index, file.equal) for file in replay.files] == [(*place, True) for place in places]


def test_files_without_pictures_are_made_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MakesFiles, "pictures", False)
    job = desk.run(num_images=2, num_inference_steps=3)
    replay, images = replayed(desk, job, desk.around.generators["tiny-sdxl"])
    assert (images, [file.equal for file in replay.files], replay.differences) == ([], [True, True], [])


def test_files_that_nobody_makes_any_more_are_not_equal(
    desk: Desk, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = desk.run()
    monkeypatch.setattr(Txt2ImgKind, "files_of_job", Kind.files_of_job)
    replay, images = replayed(desk, job, generator)
    assert [one.equal for one in images] == [True]
    assert [(file.role, file.bit_equal, file.faults) for file in replay.files] == [
        ("latents", False, ()),
        ("sheet", False, ()),
    ]


def test_a_later_job_of_the_tenant_may_name_a_file_of_an_earlier_one(desk: Desk) -> None:
    job = desk.run(tenant="alice")

    def read(tenant: str) -> bytes:
        return read_file(
            job.files[0].key,
            tenant=tenant,
            store=desk.store,
            max_bytes=10**6,
            owns_output=lambda job_id: desk.io.run(owner(job_id)) == tenant,
        )

    assert sha256(read("alice")).hexdigest() == job.files[0].sha256
    with pytest.raises(errors.InputForbidden):
        read("bob")
    again = desk.run(tenant="alice", kind="img2img", image=job.files[1].key, strength=0.5)  # a sheet is a picture
    assert (again.state, again.error) == (State.SUCCEEDED, None)


def test_files_in_s3(desk: Desk, s3_settings: StorageSettings) -> None:
    store = open_store(s3_settings)
    desk.io.run(adopt(store))  # until now it was the desk's own folder
    around = replace(desk.around, keeper=StoreKeeper(desk.io, store))
    job_id = desk.submit(num_images=2)
    JobRunner(around)(job_id)
    job = desk.client.get(job_id)
    assert [file.place for file in job.files] == ["latents/0", "latents/1", "sheet"]
    for file in job.files:
        assert sha256(store.get(file.key)).hexdigest() == file.sha256
    assert {item.key for item in store.list(job_id)} == set(job.object_keys)
    with Darkroom(around.rules, storage=store) as client:
        client.delete(job_id)
        with pytest.raises(JobNotFound):
            client.get(job_id)
    assert list(store.list(job_id)) == []
