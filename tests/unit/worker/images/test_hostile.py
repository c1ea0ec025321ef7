"""Whatever a stranger sends is a picture or one of our errors, already at upload; what upload takes, a worker takes."""

from pathlib import Path

from darkroom.storage.errors import InputError
from darkroom.storage.folder import FolderStore
from darkroom.storage.inputs import store_input
from darkroom.tasks.catalogue import Limits
from darkroom.worker.kinds.sources import read_source
from tests.unit.storage.hostile import hostile, whole

LIMITS = Limits(min_side=16, max_side=64, max_pixels=64 * 64)


def outcome(data: bytes, store: FolderStore) -> str:
    """`taken`, or the code of the error; a picture that was taken has been read as a worker reads it."""
    try:
        key = store_input(data, tenant="default", store=store)
    except InputError as error:
        return error.code
    picture, _ = read_source(store.get(key), None, None, LIMITS, 40_000_000)
    assert picture.mode == "RGB" and min(picture.size) >= 16
    return "taken"


def test_whole_pictures_are_taken(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    assert {outcome(data, store) for data in whole()} == {"taken"}


def test_hostile_pictures_are_taken_or_refused(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    outcomes = [outcome(hostile(seed), store) for seed in range(300)]
    assert set(outcomes) <= {"taken", "input_corrupt", "input_not_an_image", "input_bomb"}
    assert min(outcomes.count("taken"), outcomes.count("input_corrupt")) > 30
