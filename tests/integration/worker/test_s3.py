"""A worker process on S3, from its start to its end."""

import signal
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import urlopen

from pydantic import SecretStr

from darkroom.storage import StorageSettings, open_store
from darkroom.tasks import State, TaskSettings, marks
from darkroom.tasks.catalogue import ModelEntry
from darkroom.tasks.redis_io import BlockingIO

from .processes import Process
from .studio import Studio, open_studio

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def test_a_workers_day(
    s3_settings: StorageSettings, s3_client: "S3Client", task_settings: TaskSettings, entry: ModelEntry, tmp_path: Path
) -> None:
    """One story, since a worker takes long to start: work, a bucket that goes and comes back, and a stop in mid-job."""
    assert s3_settings.s3_secret_access_key
    storage = {
        "DARKROOM_STORAGE_URL": s3_settings.storage_url or "",
        "DARKROOM_S3_ENDPOINT_URL": s3_settings.s3_endpoint_url or "",
        "DARKROOM_S3_ACCESS_KEY_ID": s3_settings.s3_access_key_id or "",
        "DARKROOM_S3_SECRET_ACCESS_KEY": s3_settings.s3_secret_access_key.get_secret_value(),
    }
    with (
        open_studio(task_settings, open_store(s3_settings), storage, entry, tmp_path) as studio,
        studio.worker() as worker,
    ):
        worker.wait_for("worker.ready")
        studio.wait_for_workers(1)
        makes_and_remakes(studio, urlsplit(s3_settings.storage_url or "").path.strip("/"))
        survives_a_missing_bucket(studio, worker, s3_client, urlsplit(s3_settings.storage_url or "").netloc)

        last = studio.submit(num_inference_steps=60)
        studio.started(last)
        worker.send(signal.SIGTERM)
        assert worker.end() == 0
        assert (last.get().state, last.get().claims) == (State.SUCCEEDED, 1)
        assert studio.client.models().workers == {studio.model: 0}
        assert studio.submit().warnings == ["no_worker"]
        assert len(worker.of("model.loaded")) == 1
        assert not [line for line in worker.lines if "darkroom-secret" in str(line)]


def makes_and_remakes(studio: Studio, prefix: str) -> None:
    """txt2img; its result by link, and as the input of img2img."""
    made = studio.run()
    assert (made.state, made.error) == (State.SUCCEEDED, None)
    with urlopen(made.images[0].url(60)) as answer:
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.read() == made.images[0].read()
    assert f"/{prefix}/{made.id}/" in made.images[0].url(60)
    remade = studio.run(image=made.images[0].key, strength=0.5)
    assert (remade.state, remade.error) == (State.SUCCEEDED, None)
    uploaded = studio.run(image=studio.client.upload(made.images[0].read()))
    assert uploaded.state is State.SUCCEEDED
    studio.client.delete(made.id)
    assert list(studio.store.list(made.id)) == []


def survives_a_missing_bucket(studio: Studio, worker: Process, s3_client: "S3Client", bucket: str) -> None:
    """A job waits for it; one that was made anew is another store, until somebody says that it is the one."""
    for item in s3_client.list_objects_v2(Bucket=bucket).get("Contents", []):
        s3_client.delete_object(Bucket=bucket, Key=item["Key"])
    s3_client.delete_bucket(Bucket=bucket)
    handle = studio.submit()
    studio.until(handle, "job.waiting")
    assert bucket in worker.wait_for("storage.away")["error"]
    s3_client.create_bucket(Bucket=bucket)
    worker.wait_for("storage.away", code="storage_away")
    adopt(studio)
    job = handle.wait(60)
    assert (job.state, job.claims, job.failures, job.attempts) == (State.SUCCEEDED, 1, 0, [])


def adopt(studio: Studio) -> None:
    """As the command does."""
    url, prefix = studio.environment["DARKROOM_REDIS_URL"], studio.environment["DARKROOM_REDIS_PREFIX"]
    with closing(BlockingIO(TaskSettings(redis_url=SecretStr(url), redis_prefix=prefix))) as io:
        io.run(marks.adopt(studio.store))
