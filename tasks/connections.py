"""redis-py's clients, blocking and asyncio, for one server or the master of sentinels, with TLS or without."""

from typing import Any
from urllib.parse import urlsplit

import redis
import redis.asyncio.sentinel
import redis.sentinel
from redis.backoff import NoBackoff
from redis.connection import parse_url

from darkroom.tasks.addresses import is_sentinels, sentinels_of
from darkroom.tasks.settings import TaskSettings

BLOCK_SECONDS = 1.0  # how long one blocking read waits at the server
BLOCKING_READS = 2  # of one client: what ends, and what begins


def tls_options(address: str) -> dict[str, Any]:
    """What a rediss:// URL says of TLS, for clients that do not read it themselves; empty for other URLs.

    Certificates are checked unless the URL says otherwise.
    """
    parts = urlsplit(address)
    if not parts.scheme.startswith("rediss"):
        return {}
    asked = {name: value for name, value in parse_url(f"rediss://_?{parts.query}").items() if name.startswith("ssl_")}
    return {"ssl_cert_reqs": "required", **asked}


def _options(settings: TaskSettings, kind: Any, *, blocking: bool) -> dict[str, Any]:
    # A blocking read must outlast the server's wait. Nothing is retried here: the command that timed out may have run,
    # and a producer on a stuck server must hear of it within seconds. In an event loop AsyncIO has the time-outs.
    timeout = settings.redis_timeout + (BLOCK_SECONDS if blocking else 0)
    times = kind is redis
    return {
        "socket_timeout": timeout if times else None,
        "socket_connect_timeout": settings.redis_timeout if times else None,
        "socket_keepalive": True,
        "health_check_interval": 0,
        "protocol": 2,
        "max_connections": BLOCKING_READS if blocking else settings.redis_connections,
        "client_name": "darkroom",
    }


def sentinel_options(settings: TaskSettings, kind: Any = redis) -> dict[str, Any]:
    """How redis-py is to ask the sentinels: all of them together may take as long as one command."""
    address = settings.redis_url.get_secret_value()
    found = sentinels_of(address)
    share = settings.redis_timeout / len(found.hosts)
    return {"socket_timeout": share, "socket_connect_timeout": share, "retry": kind.retry.Retry(NoBackoff(), 0),
            "ssl": found.tls, **tls_options(address), **found.own_login}  # fmt: skip


def connect(kind: Any, settings: TaskSettings, *, blocking: bool) -> Any:
    """A client of the server, or of the master that the sentinels name; `kind` is redis or redis.asyncio."""
    address, retry = settings.redis_url.get_secret_value(), kind.retry.Retry(NoBackoff(), 0)
    options = {**_options(settings, kind, blocking=blocking), "retry": retry}
    if not is_sentinels(address):
        return kind.Redis.from_url(address, **options)
    found, asking = sentinels_of(address), sentinel_options(settings, kind)
    options |= {"db": found.db, "ssl": found.tls, **found.login, **tls_options(address)}
    return kind.sentinel.Sentinel(found.hosts, sentinel_kwargs=asking, **options).master_for(found.master, kind.Redis)


def sentinels_behind(client: Any) -> list[Any]:
    """Clients of their own, which nobody else closes."""
    manager = getattr(client.connection_pool, "sentinel_manager", None)
    return manager.sentinels if manager else []
