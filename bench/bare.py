"""The bare Celery worker that Darkroom is measured beside: one task that publishes a word."""

import redis
from celery import Celery

app = Celery("bare")


@app.task(name="bare.run", ignore_result=True)  # type: ignore[untyped-decorator]
def run(port: int) -> None:
    """Says that it ran."""
    _client(port).publish("bare", "done")


_clients: dict[int, redis.Redis] = {}


def _client(port: int) -> redis.Redis:
    return _clients.setdefault(port, redis.Redis(port=port))
