"""What a job's owner wishes of it while it runs: it reaches whoever holds the job, and is met once."""

import pytest
import redis

from darkroom.tasks import Darkroom, StoredFile, TaskSettings, WishNotSupported, claims, wishes
from darkroom.tasks.claims import Claim, Hold
from darkroom.tasks.wishes import Wish
from tests.integration.hand import RULES, Hand

DATASET = f"inputs/default/{'0' * 64}.zip"
TRAINING = {"kind": "finetune", "model": "sdxl", "name": "dots", "dataset": DATASET}


def training(client: Darkroom) -> str:
    return client.submit(TRAINING).id


def heard(hand: Hand, held: Claim) -> Hold:
    return hand.io.run(claims.renew([held], 60))[0]


def wished(hand: Hand, held: Claim) -> list[Wish]:
    return hand.io.run(wishes.wished(held))


def snapshot(hand: Hand, held: Claim, met: Wish, step: int = 3) -> Hold:
    """Records a file that nobody made."""
    role = f"snapshot_{step}"
    key = f"{held.job_id}/{role}-0123456789abcdef.safetensors"
    file = StoredFile(role=role, key=key, sha256="a" * 64, bytes=4, content_type="application/octet-stream")
    return hand.io.run(claims.file(held, file, meets=met))


def roles(client: Darkroom, job_id: str) -> list[str]:
    return [event.data["role"] for event in client.watch(job_id) if event.type == "job.file"]


def test_a_wish_reaches_the_holder_and_is_met_with_its_file(client: Darkroom, hand: Hand) -> None:
    job_id = training(client)
    held = hand.claim(job_id)
    assert (heard(hand, held), wished(hand, held)) == (Hold.HELD, [])
    assert client.save_now(job_id) == "requested"
    step = {"image": 0, "step": 2, "of": 9, "preview": False}
    assert hand.io.run(claims.progress(held, step, None)) is heard(hand, held) is Hold.WISH
    (one,) = wished(hand, held)
    assert one.what == "save"
    assert snapshot(hand, held, one) is Hold.HELD
    assert (heard(hand, held), wished(hand, held)) == (Hold.HELD, [])
    assert [file.role for file in client.get(job_id).files] == ["snapshot_3"]


def test_what_is_wished_twice_before_it_is_met_is_one_wish(client: Darkroom, hand: Hand) -> None:
    job_id = training(client)
    held = hand.claim(job_id)
    assert [client.save_now(job_id), client.save_now(job_id)] == ["requested"] * 2
    (one,) = wished(hand, held)
    assert snapshot(hand, held, one) is Hold.HELD


def test_a_wish_that_comes_while_another_is_met_is_met_after_it(client: Darkroom, hand: Hand) -> None:
    job_id = training(client)
    held = hand.claim(job_id)
    client.save_now(job_id)
    (older,) = wished(hand, held)
    client.save_now(job_id)
    assert snapshot(hand, held, older) is Hold.WISH
    (newer,) = wished(hand, held)
    assert snapshot(hand, held, newer, step=4) is Hold.HELD
    assert client.save_now(job_id) == "requested"
    assert snapshot(hand, held, newer, step=4) is Hold.WISH  # repeated, where the answer was lost
    assert hand.io.run(wishes.met(held, newer)) is Hold.WISH
    assert hand.io.run(wishes.met(held, wished(hand, held)[0])) is Hold.HELD
    hand.succeed(held)
    assert roles(client, job_id) == ["snapshot_3", "snapshot_4"]


def test_wishes_of_two_sorts_are_met_one_by_one(client: Darkroom, hand: Hand) -> None:
    handle = client.submit({**TRAINING, "sample_prompts": ["a dot"]})
    held = hand.claim(handle.id)
    assert [handle.save_now(), handle.sample_now()] == ["requested"] * 2
    saved, sampled = wished(hand, held)
    assert (saved.what, sampled.what) == ("save", "sample")
    assert hand.io.run(wishes.met(held, sampled)) is Hold.WISH
    assert snapshot(hand, held, saved) is Hold.HELD


def test_a_wish_outlives_the_worker_that_had_heard_of_it(client: Darkroom, hand: Hand) -> None:
    job_id = training(client)
    first = hand.claim(job_id, lease=0.001)
    client.save_now(job_id)
    (one,) = wished(hand, first)
    second = hand.claim(job_id)
    assert snapshot(hand, first, one) is hand.io.run(wishes.met(first, one)) is Hold.LOST
    assert (heard(hand, second), wished(hand, second)) == (Hold.WISH, [one])
    assert client.get(job_id).files == []


def test_a_wish_of_a_training_that_waits_to_go_on_is_kept_for_it(client: Darkroom, hand: Hand) -> None:
    job_id = training(client)
    hand.io.run(claims.hand_back(hand.claim(job_id), RULES))
    assert client.save_now(job_id) == "requested"
    assert heard(hand, hand.claim(job_id)) is Hold.WISH


def test_what_has_not_begun_and_what_is_over_hears_no_wish(
    client: Darkroom, hand: Hand, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    job_id = training(client)

    def kept() -> set[str]:
        return {name for name in raw.hgetall(f"{task_settings.redis_prefix}job:{job_id}") if name.startswith("wish/")}

    assert (client.save_now(job_id), kept()) == ("not_begun", set())
    held = hand.claim(job_id)
    assert (client.save_now(job_id), kept()) == ("requested", {"wish/save"})
    assert client.cancel(job_id) == client.save_now(job_id) == "cancellation_requested"
    assert heard(hand, held) is Hold.CANCEL
    hand.io.run(claims.confirm_cancel(held, RULES))
    assert (client.save_now(job_id), kept()) == ("already_finished", set())


def test_jobs_of_others_and_jobs_that_are_not_there(client: Darkroom, hand: Hand) -> None:
    job_id = training(client)
    held = hand.claim(job_id)
    assert client.save_now(job_id, tenant="bob") == client.save_now("x") == "not_found"
    assert heard(hand, held) is Hold.HELD
    assert client.save_now(job_id.upper(), tenant="default") == "requested"


def test_a_job_of_a_kind_that_is_not_saved(client: Darkroom, hand: Hand) -> None:
    handle = client.submit({"prompt": "a cat", "model": "sdxl"})
    hand.claim(handle.id)
    with pytest.raises(WishNotSupported, match="of the kind txt2img, cannot be saved") as caught:
        handle.save_now()
    assert caught.value.code == "wish_not_supported"
