"""Warm-up of the buckets: measured, checked, and ended where time or memory ends."""

from collections.abc import Hashable, Iterator

import pytest
import torch
from structlog.testing import capture_logs

from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.policy import Policy
from darkroom.worker.batching.stacking import Call
from darkroom.worker.batching.warming import warm_buckets


class Watched(Policy):
    """A policy that tells what it hears."""

    def __init__(self) -> None:
        super().__init__((1, 2, 4, 8))
        self.measured: list[int] = []
        self.dropped: list[int] = []

    def ran(self, group: object, bucket: int, seconds: float) -> None:
        self.measured.append(bucket)
        super().ran(group, bucket, seconds)

    def drop(self, bucket: int, group: Hashable) -> None:
        self.dropped.append(bucket)
        super().drop(bucket, group)


class Denoiser:
    """x + 1, but in some buckets the last row comes out otherwise, in some all do by their sum; `room` rows fit."""

    def __init__(self, place: tuple[int, ...] = (), company: tuple[int, ...] = (), room: int = 99) -> None:
        self.place, self.company, self.room = place, company, room

    def __call__(self, sample: torch.Tensor, step: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor]:
        if len(sample) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert len({tuple(row.tolist()) for row in sample}) == len(sample)
        assert len(ids) == len(step) == len(sample)
        out = sample + 1
        if len(sample) in self.place:
            out[-1] *= 1 + 1e-6
        if len(sample) in self.company:
            out += 1e-3 * (sample[:, 0] * torch.arange(len(sample))).sum()
        return (out,)


@pytest.fixture
def policy() -> Watched:
    return Watched()


@pytest.fixture
def engine(policy: Watched) -> Iterator[Engine]:
    with Engine(1, policy) as engine:
        yield engine


def call(denoiser: Denoiser) -> Call:
    return Call.of(denoiser, (torch.ones(2, 4), torch.tensor(5), torch.zeros(2, 1, dtype=torch.int64)), {})


def test_every_bucket_is_measured(engine: Engine, policy: Watched) -> None:
    warm_buckets(engine, call(Denoiser()), 60)
    assert (policy.measured, policy.dropped) == ([1] * 3 + [2] * 3 + [4] * 3 + [8] * 3, [])
    assert engine.stats().stepping == 0


def test_a_bucket_in_which_the_place_counts_is_dropped(engine: Engine, policy: Watched) -> None:
    with capture_logs() as logs:
        warm_buckets(engine, first := call(Denoiser(place=(4,))), 60)
    assert policy.dropped == [4]
    found = [(line["event"], line["bucket"]) for line in logs]
    tried = [("batch.bucket_tried", bucket) for bucket in (1, 2, 4, 8)]
    assert found == [*tried, ("batch.bucket_dropped", 4)]
    assert engine.policy.bucket_for(first.group, 3) == 8
    assert engine.policy.bucket_for(call(Denoiser()).group, 3) == 4


def test_where_it_counts_in_most_they_are_kept(engine: Engine, policy: Watched) -> None:
    warm_buckets(engine, call(Denoiser(place=(2, 4))), 60)
    assert policy.dropped == []


def test_buckets_in_which_company_counts_are_always_dropped(engine: Engine, policy: Watched) -> None:
    warm_buckets(engine, call(Denoiser(place=(2, 4, 8), company=(2, 4, 8))), 60)
    assert policy.dropped == [2, 4, 8]


def test_without_time_nothing_is_run(engine: Engine, policy: Watched) -> None:
    warm_buckets(engine, call(Denoiser()), -1)
    assert policy.measured == []


def test_where_memory_ends_warming_ends(engine: Engine, policy: Watched) -> None:
    given = call(Denoiser(room=2))
    warm_buckets(engine, given, 60)
    assert policy.cap(given.group) == 2
    assert 8 not in policy.measured
