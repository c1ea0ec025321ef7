"""What a worker finds out about its store, with a real server and no model."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.core.authorization import enable_iam_authentication
from pydantic import SecretStr
from structlog.testing import capture_logs

from darkroom.cli.demo.server import LocalServer
from darkroom.storage import ObjectStore, StorageError, StorageSettings, open_store
from darkroom.storage.errors import (
    BucketMissing,
    InputMissing,
    ObjectCorrupt,
    ObjectNotFound,
    StorageAway,
    StorageBroken,
    StorageConfigInvalid,
    StorageDenied,
    StorageFull,
    StorageUnavailable,
)
from darkroom.tasks import TaskSettings
from darkroom.tasks.marks import adopt, known_mark
from darkroom.tasks.redis_io import BlockingIO
from darkroom.worker.delivery.storekeeper import StoreKeeper


@pytest.fixture
def io(task_settings: TaskSettings) -> Iterator[BlockingIO]:
    io = BlockingIO(task_settings)
    yield io
    io.close()


@pytest.fixture
def keeper(io: BlockingIO, store: ObjectStore) -> StoreKeeper:
    return StoreKeeper(io, store)


def test_the_first_start_marks_the_store(io: BlockingIO, store: ObjectStore, keeper: StoreKeeper) -> None:
    keeper.begin()
    assert keeper.trouble is None
    assert store.mark() == io.run(known_mark()) is not None


def test_a_wrong_setting_ends_the_first_start(io: BlockingIO, s3_settings: StorageSettings) -> None:
    missing = open_store(s3_settings.model_copy(update={"storage_url": "s3://not-made-yet"}))
    with pytest.raises(BucketMissing):
        StoreKeeper(io, missing).begin()
    with enable_iam_authentication(), pytest.raises(StorageDenied):
        StoreKeeper(io, open_store(s3_settings)).begin()
    assert io.run(known_mark()) is None


def test_what_redis_knows_is_waited_for(io: BlockingIO, s3_settings: StorageSettings) -> None:
    io.run(adopt(open_store(s3_settings)))
    with enable_iam_authentication():
        denied = StoreKeeper(io, open_store(s3_settings))
        denied.begin()
        assert isinstance(denied.trouble, StorageDenied)
    assert denied.look() is None


def test_a_start_in_the_wrong_region_never_waits(io: BlockingIO, store: ObjectStore) -> None:
    class Elsewhere(StoreKeeper):
        def _fault(self, *, write: bool) -> StorageConfigInvalid:
            return StorageConfigInvalid("the bucket lies in another region")

    io.run(adopt(store))
    with pytest.raises(StorageConfigInvalid):
        Elsewhere(io, store).begin()


def test_a_store_that_does_not_answer_is_waited_for_at_the_first_start(
    io: BlockingIO, s3_settings: StorageSettings
) -> None:
    gone = s3_settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9", "s3_attempts": 1})
    keeper = StoreKeeper(io, open_store(gone))
    keeper.begin()
    assert isinstance(keeper.trouble, StorageUnavailable)
    assert io.run(known_mark()) is None


def test_going_and_coming_back_are_said_once(keeper: StoreKeeper, tmp_path: Path) -> None:
    keeper.begin()
    with capture_logs() as logs:
        (tmp_path / "store").rename(tmp_path / "unmounted")
        assert [isinstance(keeper.look(), StorageAway) for _ in range(3)] == [True] * 3
        assert not keeper.wait(0)
        (tmp_path / "unmounted").rename(tmp_path / "store")
        assert [keeper.look() for _ in range(3)] == [None] * 3
        assert keeper.wait(0)
    assert [line["event"] for line in logs] == ["storage.away", "storage.back"]
    assert (logs[0]["code"], "darkroom store adopt" in logs[0]["hint"]) == ("storage_away", True)


@pytest.mark.parametrize("error", [StorageDenied("one"), StorageUnavailable("one"), StorageBroken("one")])
def test_where_the_store_is_well_an_error_is_about_one_object(
    keeper: StoreKeeper, tmp_path: Path, error: StorageError
) -> None:
    assert keeper.heard(error) is None
    assert (keeper.trouble, keeper.wait(0)) == (None, True)
    (tmp_path / "store").rename(tmp_path / "unmounted")
    assert isinstance(keeper.heard(error), StorageAway)
    assert not keeper.wait(0)


@pytest.mark.parametrize("error", [ObjectNotFound("one"), InputMissing("one"), ObjectCorrupt("one")])
def test_what_is_about_one_object_needs_no_look(
    keeper: StoreKeeper, error: StorageError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "look", lambda: pytest.fail("it was looked at"))
    assert keeper.heard(error) is None


def test_what_cannot_be_about_one_object_needs_no_look(keeper: StoreKeeper) -> None:
    full = StorageFull("no room")
    assert keeper.heard(full, 10_000_000) is keeper.trouble is full
    assert keeper.look() is None  # there is room for as much


def test_while_redis_is_away_the_store_keeps_its_mark(store: ObjectStore) -> None:
    with LocalServer() as server:
        io = BlockingIO(TaskSettings(redis_url=SecretStr(server.url), redis_timeout=0.2))
        keeper, late = StoreKeeper(io, store), StoreKeeper(io, store)
        assert keeper.look() is None
    keeper.store._asked_at = 0.0  # as after a while
    assert keeper.look() is None
    assert isinstance(late.look(), StorageUnavailable)  # it never knew
    late.begin()  # and may yet hear
    io.close()


def test_a_look_that_hangs_keeps_no_process(keeper: StoreKeeper, store: ObjectStore, tmp_path: Path) -> None:
    keeper.start()
    with keeper._looking:
        keeper.close()
    keeper._thread.join(60)
    assert not keeper._thread.is_alive()
