"""Fetches an https: URL that a stranger chose, without becoming his way into the network.

A name is looked up once for each connection, every address that it has must be public, and the connection goes to an
address that was checked, while TLS and the Host header keep the name. Proxies of the environment are not used.
"""

import re
import ssl
import time
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import httpcore

from darkroom.storage.addresses import AddressCheck, Resolver, is_public, resolve
from darkroom.storage.errors import (
    InputAddressForbidden,
    InputError,
    InputMissing,
    InputNotAnImage,
    InputReferenceInvalid,
    InputTooLarge,
    InputUnreachable,
)
from darkroom.storage.pinned import Deadline, PinnedBackend

MAX_REDIRECTS = 3
_REDIRECTS = {301, 302, 303, 307, 308}
_TRY_LATER = {408, 425, 429}
#: A name (RFC 1035, 2.3.4), or an address.
_HOST = re.compile(r"[\w.:%-]{1,253}", re.ASCII)
#: What a URL may hold as it is; the rest is percent-encoded.
_SAFE = "/?%:@!$&'()*+,;=~-._"


@dataclass(frozen=True)
class Fetcher:
    """Fetches URLs, each within `seconds` in all and up to `max_bytes`.

    Resolver, check of addresses and TLS context are parameters for tests against a server on this machine.
    """

    max_bytes: int
    seconds: float
    resolve: Resolver = resolve
    allowed: AddressCheck = is_public
    tls: ssl.SSLContext = field(default_factory=httpcore.default_ssl_context)

    def __call__(self, url: str) -> bytes:
        """The body. Raises an InputError: invalid, forbidden, missing, too large, or unreachable."""
        deadline = Deadline(time.monotonic() + self.seconds)
        backend = PinnedBackend(deadline, self.resolve, self.allowed)
        with httpcore.ConnectionPool(ssl_context=self.tls, network_backend=backend) as pool:
            for _ in range(MAX_REDIRECTS + 1):
                answer = self._get(pool, url)
                if isinstance(answer, bytes):
                    return answer
                url = _joined(url, answer)
        msg = f"{_shown(url)}: more than {MAX_REDIRECTS} redirects"
        raise InputMissing(msg)

    def _get(self, pool: httpcore.ConnectionPool, url: str) -> bytes | str:
        """The body, or where a redirect leads."""
        host, target = _checked(url)
        # No compression: bytes are counted as they arrive, and nothing is unpacked.
        headers = [("Host", host), ("Accept", "image/png, image/jpeg, image/webp"), ("Accept-Encoding", "identity")]
        try:
            with pool.stream("GET", target, headers=headers) as response:
                return self._read(response, url)
        except httpcore.TimeoutException as error:
            msg = f"{_shown(url)}: not done in {self.seconds:g} s"
            raise InputUnreachable(msg) from error
        except (httpcore.NetworkError, httpcore.RemoteProtocolError) as error:
            raise InputUnreachable(f"{_shown(url)}: {error or type(error).__name__}") from error
        except httpcore.LocalProtocolError as error:
            raise InputReferenceInvalid(f"{_shown(url)}: {error}") from error

    def _read(self, response: httpcore.Response, url: str) -> bytes | str:
        headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
        if response.status in _REDIRECTS and b"location" in headers:
            return headers[b"location"]
        if response.status != 200:
            raise _refusal(response.status, url)
        if headers.get(b"content-encoding", "").lower() not in ("", "identity"):
            msg = f"{_shown(url)}: the answer is compressed, though it was asked not to be"
            raise InputNotAnImage(msg)
        length = headers.get(b"content-length", "")
        if length.isdecimal() and int(length) > self.max_bytes:
            raise self._too_large(url)
        return self._body(response, url)

    def _body(self, response: httpcore.Response, url: str) -> bytes:
        body = bytearray()
        for chunk in response.iter_stream():
            body += chunk
            if len(body) > self.max_bytes:
                raise self._too_large(url)
        return bytes(body)

    def _too_large(self, url: str) -> InputTooLarge:
        return InputTooLarge(f"{_shown(url)}: over the limit of {self.max_bytes} bytes")


def _refusal(status: int, url: str) -> InputError:
    message = f"{_shown(url)}: the server answered {status}"
    return InputUnreachable(message) if status >= 500 or status in _TRY_LATER else InputMissing(message)


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise InputReferenceInvalid(f"{_shown(url)} redirects to what is no URL: {error}") from error


def _checked(url: str) -> tuple[str, httpcore.URL]:
    """The Host header and the target. Raises InputReferenceInvalid, InputAddressForbidden."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").encode("idna").decode()
    except ValueError as error:
        raise InputReferenceInvalid(f"the URL cannot be read: {error}") from error
    if parts.scheme != "https":
        msg = f"{_shown(url)}: only https: is fetched"
        raise InputAddressForbidden(msg)
    if not host or "@" in parts.netloc:
        msg = "the URL names no host, or a user"
        raise InputReferenceInvalid(msg)
    if not _HOST.fullmatch(host):
        msg = f"the URL's host cannot be: {host[:100]!r}"
        raise InputReferenceInvalid(msg)
    named = f"[{host}]" if ":" in host else host
    target = httpcore.URL(scheme=b"https", host=host.encode(), port=port, target=_request_target(parts))
    return (named if port is None else f"{named}:{port}"), target


def _request_target(parts: SplitResult) -> bytes:
    query = f"?{parts.query}" if parts.query else ""
    return quote((parts.path or "/") + query, safe=_SAFE).encode()


def _shown(url: str) -> str:
    """The URL for a message: without the query, which often holds a signature."""
    return url.partition("?")[0][:200]
