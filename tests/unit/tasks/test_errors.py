"""The error tree: its codes belong to the API."""

import pytest

from darkroom.tasks import errors
from darkroom.tasks.catalogue import CatalogueError
from darkroom.tasks.redis_io import ours

CODES = {
    "wish_not_supported": 2,
    "settings_invalid": 2,
    "invalid_request": 2,
    "idempotency_conflict": 2,
    "batch_not_found": 7,
    "batch_sealed": 7,
    "batch_canceled": 7,
    "job_not_found": 7,
    "job_not_finished": 7,
    "job_not_failed": 7,
    "job_failed": 8,
    "wait_timeout": 9,
    "client_closed": 1,
    "lora_name_taken": 2,
    "lora_not_found": 7,
    "queue_unavailable": 3,
    "queue_busy": 3,
    "queue_auth_failed": 3,
    "queue_full": 3,
    "quota_exceeded": 3,
    "queue_broken": 3,
    "storage_not_configured": 5,
    "storage_failed": 5,
}


def tree(root: type[errors.DarkroomError] = errors.DarkroomError) -> list[type[errors.DarkroomError]]:
    """All classes of the tree that stand in its file."""
    found = [kind for child in root.__subclasses__() for kind in (child, *tree(child))]
    return [kind for kind in found if kind.__module__ == errors.__name__]


def test_codes_and_exit_codes_are_stable() -> None:
    assert {kind.code: kind.exit_code for kind in tree() if kind is not errors.QueueError} == CODES
    assert (CatalogueError.code, CatalogueError.exit_code) == ("catalogue_invalid", 4)


def test_the_drawing_of_the_tree_is_right() -> None:
    """Each class stands in it with its code, marked (r) when it is worth trying again."""
    for kind in tree():
        (line,) = [line for line in (errors.__doc__ or "").splitlines() if f"─ {kind.__name__} " in line]
        assert kind is errors.QueueError or kind.code in line.split()
        assert ("(r)" in line) == kind.retryable


def test_message_and_hint() -> None:
    error = errors.QueueFull("no room")
    assert error.message == "no room"
    assert str(error) == f"no room ({error.hint})"
    assert str(errors.QueueFull("no room", hint="")) == "no room"


def test_an_invalid_request_says_everything() -> None:
    error = errors.InvalidRequest([errors.Fault("a", "x", "is bad"), errors.Fault("b", "y", "is worse")])
    assert str(error) == "a: is bad; b: is worse"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("WRONGPASS invalid username-password pair", "queue_auth_failed"),
        ("NOAUTH Authentication required.", "queue_auth_failed"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "queue_full"),
        ("LOADING Redis is loading the dataset in memory", "queue_unavailable"),
        ("READONLY You can't write against a read only replica.", "queue_unavailable"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "queue_broken"),
        ("MISCONF Redis is configured to save RDB snapshots", "queue_unavailable"),
    ],
)
def test_what_redis_says_in_our_words(said: str, code: str) -> None:
    from redis.exceptions import ResponseError

    assert ours(ResponseError(said)).code == code


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("unknown command 'AUTH', with args beginning with: 'user' 'hush' ", "unknown command 'AUTH'"),
        ("No master found for 'm' : <redis.client.Redis(<...(password=hush)>)> - TimeoutError", "found for 'm'"),
    ],
)
def test_what_was_sent_is_not_repeated(said: str, told: str) -> None:
    from redis.exceptions import ResponseError

    assert ours(ResponseError(said)).message.endswith(told)
