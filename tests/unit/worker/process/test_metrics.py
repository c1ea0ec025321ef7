"""Metrics: what the engine did, over HTTP, on loopback."""

import socket
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

from darkroom.worker.adapters.keeper import BankStats
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.extras import Extra
from darkroom.worker.caches import Cache
from darkroom.worker.errors import MetricsUnavailable
from darkroom.worker.process.metrics import EngineCollector, metrics_server


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as opened:
        yield opened


@pytest.fixture
def port() -> int:
    """Free a moment ago; should another process take it, the next free one serves."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def read(port: int) -> dict[str, float]:
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {
        sample.name + "".join(f",{value}" for _, value in sorted(sample.labels.items())): sample.value
        for sample in samples
    }


def test_what_was_done_can_be_read(engine: Engine, port: int) -> None:
    prompts: Cache[Any] = Cache()
    for _ in range(3):
        prompts.get("a star", lambda: 1)
    collector = EngineCollector(engine.stats, {"tiny": prompts}, {"lease_missing": 2})
    with metrics_server(collector, "127.0.0.1", port) as found:
        assert read(found)["darkroom_rows_total"] == 0
        with engine.image() as ticket:
            engine.denoise(lambda sample: (sample,), (torch.zeros(3, 4),), {}, ticket)
        told = read(found)
    assert told["darkroom_model_calls_total,4"] == 1
    assert told["darkroom_repairs_total,lease_missing"] == 2
    assert told["darkroom_rows_total"] == 3
    assert told["darkroom_padding_rows_total"] == 1
    assert told["darkroom_row_cap"] == 32
    assert told["darkroom_prompts_total,yes,tiny"] == 2
    assert told["darkroom_prompts_total,no,tiny"] == 1


def test_what_is_in_the_banks(engine: Engine, port: int) -> None:
    bank = BankStats(loads=5, evictions=2, waits=1, lying={"a": (1, 2), "b": (4,)}, size=16, bytes=1000)
    collector = EngineCollector(engine.stats, {}, banks={"tiny": lambda: bank})
    extra = Extra((torch.ones(2, 4),), 1)
    with engine.image() as ticket:
        engine.denoise(lambda sample, extras: (sample,), (torch.zeros(2, 4),), {}, ticket, (extra,))
    with metrics_server(collector, "127.0.0.1", port) as found:
        told = read(found)
    counted = {name: told[f"darkroom_lora_{name}_total,tiny"] for name in ("loads", "evictions", "waits")}
    assert counted == {"loads": 5, "evictions": 2, "waits": 1}
    gauged = {name: told[f"darkroom_lora_bank_{name},tiny"] for name in ("loras", "pages", "size_pages", "bytes")}
    assert gauged == {"loras": 2, "pages": 3, "size_pages": 16, "bytes": 1000}
    assert (told["darkroom_adapted_rows_total"], told["darkroom_plain_rows_beside_adapted_total"]) == (2, 0)


def test_two_processes_of_one_host_serve_at_two_ports(engine: Engine, port: int) -> None:
    collector = EngineCollector(engine.stats, {})
    with metrics_server(collector, "127.0.0.1", port) as one, metrics_server(collector, "127.0.0.1", port) as other:
        assert one < other
        assert read(one).keys() == read(other).keys()
    with metrics_server(collector, "127.0.0.1", one) as again:  # the port is given back
        assert again == one


@pytest.mark.parametrize("usable", [True, False])
def test_whether_the_store_can_be_used(engine: Engine, port: int, usable: bool) -> None:
    with metrics_server(EngineCollector(engine.stats, {}, store_usable=lambda: usable), "127.0.0.1", port) as found:
        assert read(found)["darkroom_storage_usable"] == usable


def test_an_address_of_another_machine_is_refused(engine: Engine, port: int) -> None:
    with (
        pytest.raises(MetricsUnavailable, match=r"cannot serve metrics at 192\.0\.2\.1"),
        metrics_server(EngineCollector(engine.stats, {}), "192.0.2.1", port),
    ):
        pass
