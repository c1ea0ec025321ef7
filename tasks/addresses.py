"""Where Redis is: one server (`redis://host:port/db`), or the master that sentinels name.

`redis+sentinel://user:password@host:26379,host:26379/master/db`, the form that several tools share; user and password
are the master's, `?sentinel_username=` and `?sentinel_password=` those of the sentinels where they ask for any.
"""

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

#: Of a URL's options over TLS those that redis-py and kombu both read.
TLS_OPTIONS = frozenset({"ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"})
SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})
SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True, repr=False)
class Sentinels:
    """Servers to ask for the master. `login` is the master's user and password, `own_login` the sentinels'."""

    hosts: tuple[tuple[str, int], ...]
    master: str
    db: int
    login: dict[str, str]
    own_login: dict[str, str]
    tls: bool


def is_sentinels(url: str) -> bool:
    """Whether the URL names sentinels."""
    return urlsplit(url).scheme in ("redis+sentinel", "rediss+sentinel")


def sentinels_of(url: str) -> Sentinels:
    """What the URL says. Raises ValueError where it is none of that form."""
    parts = urlsplit(url)
    user, _, hosts = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    master, _, db = parts.path.strip("/").partition("/")
    if not master:
        raise ValueError("the master's name is missing")
    options = dict(parse_qsl(parts.query))
    return Sentinels(
        hosts=tuple(_host(host) for host in hosts.split(",")),
        master=unquote(master),
        db=int(db or 0),
        login=_login(unquote(name), unquote(password)),
        own_login=_login(options.get("sentinel_username", ""), options.get("sentinel_password", "")),
        tls=parts.scheme.startswith("rediss"),
    )


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("a sentinel has no host")
    return parts.hostname, parts.port or SENTINEL_PORT


def _login(username: str, password: str) -> dict[str, str]:
    return {key: value for key, value in (("username", username), ("password", password)) if value}


def check_address(url: str) -> None:
    """Raises ValueError where neither redis-py nor kombu could use the URL alike: both read it.

    No message repeats a part of the URL: a password with `?`, `#` or `/` in it may stand in any.
    """
    try:
        parts = urlsplit(url)
        if is_sentinels(url):
            sentinels_of(url)
        else:
            _check_server(parts)
        if parts.fragment:
            raise ValueError
    except ValueError:  # a port or a database that is no number, or no URL at all, too
        raise ValueError(
            "must be redis://user:password@host:port/db, redis+sentinel://host:port,host:port/master/db, or rediss...; "
            "what is neither letter nor digit in a password is written as %XX"
        ) from None
    known = TLS_OPTIONS if parts.scheme.startswith("rediss") else frozenset[str]()
    known |= SENTINEL_OPTIONS if is_sentinels(url) else frozenset()
    if any(name not in known for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        those = ", ".join(sorted(known)) or "none; those of TLS are rediss://..."
        raise ValueError(f"has options that are not known here: known are {those}")


def _check_server(parts: SplitResult) -> None:
    named = parts.scheme in ("redis", "rediss") and bool(parts.hostname) and (parts.port or 1) > 0
    if not named or not re.fullmatch(r"/?\d*", parts.path):
        raise ValueError
