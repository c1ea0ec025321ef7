"""The Celery app of a worker: which queues it reads and how. Producers need none of it."""

import os
import signal
from collections.abc import Callable, Sequence
from types import FrameType
from urllib.parse import quote

from celery import Celery
from celery.worker import state
from kombu import Exchange, Queue

from darkroom.tasks.addresses import is_sentinels, sentinels_of
from darkroom.tasks.connections import sentinel_options, tls_options
from darkroom.tasks.message import TASK_NAME
from darkroom.tasks.places import Place
from darkroom.tasks.settings import TaskSettings
from darkroom.worker.delivery.drain import Drain
from darkroom.worker.errors import ConsumerFailed
from darkroom.worker.process import transport
from darkroom.worker.process.turns import Turns


def make_app(
    settings: TaskSettings,
    models: Sequence[str],
    run: Callable[[str], None],
    may_take: Callable[[], bool] = lambda: True,
    turns: Turns | None = None,
) -> Celery:
    """An app with one task, which runs a job by its id. No message is read while `may_take` says no.

    `turns`: the lanes that it reads; default: those of the models.
    """
    transport.install()
    turns = turns or Turns(models)
    address = settings.redis_url.get_secret_value()
    app = Celery("darkroom", broker=_broker(address), set_as_current=False)
    app.conf.update(
        task_queues=_queues(turns.home),
        task_default_queue=turns.home[0].queue,
        task_create_missing_queues=False,
        task_acks_late=False,  # the lease protects a job, not its message
        task_ignore_result=True,
        task_track_started=False,
        accept_content=["json"],
        task_serializer="json",
        worker_pool="darkroom.worker.process.pool:JobPool",
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_use_ssl=tls_options(address) or None,  # kombu's own default checks no certificate
        broker_transport_options=_transport(settings) | _sentinels(settings) | {"may_take": may_take, "turns": turns},
    )

    @app.task(name=TASK_NAME, shared=False, lazy=False)  # type: ignore[untyped-decorator]
    def run_job(job_id: str) -> None:
        run(job_id)

    return app


def _queues(lanes: Sequence[Place]) -> list[Queue]:
    exchange = Exchange("darkroom", type="direct")
    return [Queue(lane.queue, exchange, routing_key=lane.queue) for lane in lanes]


def _transport(settings: TaskSettings) -> dict[str, object]:
    return {
        "global_keyprefix": settings.redis_prefix,
        "priority_steps": [0],
        "client_name": "darkroom-worker",
        "socket_timeout": 5,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 10,
        # No second set of books on messages in Redis: the record and the janitor know better what was lost. Kombu's
        # cost two calls a message, a slot for good where one of them failed, and the process on a full Redis.
        "ack_emulation": False,
    }


def _broker(address: str) -> str:
    """The address as kombu writes it: each sentinel with the master's login and database."""
    if not is_sentinels(address):
        return address
    found = sentinels_of(address)
    login = ":".join(quote(found.login.get(name, ""), safe="") for name in ("username", "password"))
    return ";".join(f"sentinel://{login}@{host}:{port}/{found.db}" for host, port in found.hosts)


def _sentinels(settings: TaskSettings) -> dict[str, object]:
    address = settings.redis_url.get_secret_value()
    if not is_sentinels(address):
        return {}
    return {"master_name": sentinels_of(address).master, "sentinel_kwargs": sentinel_options(settings)}


def consume(app: Celery, concurrency: int, on_ready: Callable[[], None], drain: Drain) -> None:
    """Takes messages until SIGTERM or SIGINT, then drains; a second signal hands every job back now, a third kills.

    Raises ConsumerFailed where Celery gave up by itself.
    """
    app.set_default()  # the pool's threads look their app up there
    controller = app.WorkController(
        pool_cls=app.conf.worker_pool,
        concurrency=concurrency,
        without_heartbeat=True,
        without_mingle=True,
        without_gossip=True,
        ready_callback=lambda _: on_ready(),
    )
    on_signal = _stopper(drain)
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        controller.start()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if controller.exitcode:
        raise ConsumerFailed(f"Celery ended by itself, with exit code {controller.exitcode}")


def _stopper(drain: Drain) -> Callable[[int, FrameType | None], None]:
    steps = iter([drain.begin, drain.hurry])

    def stop(number: int, _frame: FrameType | None) -> None:
        step = next(steps, None)
        if step is None:
            os._exit(128 + number)  # the leases run out, and other workers take the jobs
        step()
        state.should_stop = 0  # Celery's loop looks at it between two messages

    return stop
