"""What the engine does, for Prometheus: read when it is asked for, so that serving costs nothing."""

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from types import MappingProxyType
from typing import Any
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from darkroom.worker.adapters.keeper import BankStats
from darkroom.worker.batching.stats import EngineStats
from darkroom.worker.caches import Cache
from darkroom.worker.errors import MetricsUnavailable

_Columns = Mapping[str, tuple[str, Callable[[BankStats], float]]]

PROCESSES = 64  # of one host that may serve metrics, each at the next free port


class EngineCollector(Collector):
    """What the engine did, the kept prompts by model, what was mended, the store's state, and LoRAs in the `banks`, by
    the models whose weights they are for; in Prometheus's form.
    """

    def __init__(
        self,
        engine: Callable[[], EngineStats],
        prompts: Mapping[str, Cache[Any]],
        repairs: Mapping[str, int] = MappingProxyType({}),
        store_usable: Callable[[], bool] = lambda: True,
        banks: Mapping[str, Callable[[], BankStats]] = MappingProxyType({}),
    ) -> None:
        self._banks = banks
        self._engine, self._prompts, self._repairs, self._store_usable = engine, prompts, repairs, store_usable

    def collect(self) -> Iterable[Metric]:
        """One reading."""
        stats = self._engine()
        calls = CounterMetricFamily("darkroom_model_calls", "denoiser calls, by rows with padding", labels=["bucket"])
        for bucket, count in sorted(stats.model_calls.items()):
            calls.add_metric([str(bucket)], count)
        yield calls
        yield from (CounterMetricFamily(f"darkroom_{name}", words, value) for name, words, value in _counters(stats))
        yield from (GaugeMetricFamily(f"darkroom_{name}", words, value) for name, words, value in _gauges(stats))
        cache = CounterMetricFamily("darkroom_prompts", "prompts to encode", labels=["model", "cached"])
        for model, prompts in self._prompts.items():
            cache.add_metric([model, "yes"], prompts.hits)
            cache.add_metric([model, "no"], prompts.misses)
        yield cache
        mended = CounterMetricFamily("darkroom_repairs", "records and indexes that were mended", labels=["repair"])
        for repair, count in sorted(dict(self._repairs).items()):
            mended.add_metric([repair], count)
        yield mended
        yield from _of_banks({model: read() for model, read in self._banks.items()})
        words = "whether the store can be used; while it cannot, no jobs are taken"
        yield GaugeMetricFamily("darkroom_storage_usable", words, float(self._store_usable()))


@contextmanager
def metrics_server(collector: Collector, host: str, port: int) -> Iterator[int]:
    """Serves `/metrics` while the context is open, at `port` or, where another process has it, the next free one.

    Gives the port. Raises MetricsUnavailable where the host is not this machine's, or none of the ports is free.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    server, thread = _start(registry, host, range(port, port + PROCESSES))
    structlog.get_logger().info("metrics.ready", host=host, port=server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _start(registry: CollectorRegistry, host: str, ports: range) -> tuple[WSGIServer, Thread]:
    for port in ports:
        try:
            return start_http_server(port, host, registry)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise MetricsUnavailable(f"cannot serve metrics at {host}:{port}: {error.strerror}") from None
    raise MetricsUnavailable(f"no free port for metrics from {ports.start} to {ports[-1]}")


def _counters(stats: EngineStats) -> Iterator[tuple[str, str, float]]:
    yield "rows", "rows of denoiser calls that images asked for", stats.rows
    yield "adapted_rows", "of the rows, those that had LoRAs or a style", stats.adapted
    yield "plain_rows_beside_adapted", "of the rows, those that had none, in a call with some that had", stats.beside
    yield "padding_rows", "rows of denoiser calls that nobody asked for", stats.padding
    yield "calls", "denoiser calls of images", stats.calls
    yield "queued_seconds", "seconds from the coming of images' calls to their start", stats.queued
    yield "company_seconds", "of these, seconds in which the model stood still for others to join", stats.company
    yield "busy_seconds", "seconds in denoiser calls", stats.busy
    yield "repeated_calls", "calls that were repeated alone after an error among several", stats.repeated
    yield "out_of_memory", "denoiser calls for which memory did not suffice", stats.out_of_memory


def _of_banks(banks: Mapping[str, BankStats]) -> Iterator[Metric]:
    counted: _Columns = {
        "lora_loads": ("LoRAs that were brought into the bank", lambda bank: bank.loads),
        "lora_evictions": ("LoRAs that left the bank for others", lambda bank: bank.evictions),
        "lora_waits": ("images that waited for room in the bank", lambda bank: bank.waits),
    }
    gauged: _Columns = {
        "lora_bank_loras": ("LoRAs in the bank", lambda bank: len(bank.lying)),
        "lora_bank_pages": ("pages of the bank that LoRAs lie on", lambda bank: bank.used),
        "lora_bank_size_pages": ("pages of the bank", lambda bank: bank.size),
        "lora_bank_bytes": ("memory of the bank", lambda bank: bank.bytes),
    }
    for name, (words, value) in counted.items():
        yield _by_model(CounterMetricFamily(f"darkroom_{name}", words, labels=["model"]), banks, value)
    for name, (words, value) in gauged.items():
        yield _by_model(GaugeMetricFamily(f"darkroom_{name}", words, labels=["model"]), banks, value)


def _by_model(
    metric: CounterMetricFamily | GaugeMetricFamily, banks: Mapping[str, BankStats], value: Callable[[BankStats], float]
) -> Metric:
    for model, bank in banks.items():
        metric.add_metric([model], value(bank))
    return metric


def _gauges(stats: EngineStats) -> Iterator[tuple[str, str, float]]:
    yield "step_seconds", "the newest denoiser call", stats.step
    yield "gap_seconds", "newest gap from rows handed back to the last caller's next call", stats.gap
    yield "row_cap", "most rows of a call of the newest group", stats.cap
    yield "calls_waiting", "images' calls that wait", stats.waiting
    yield "images_stepping", "images between two calls", stats.stepping
