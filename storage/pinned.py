"""The network under a fetch: connects only to addresses that were checked, and only until the deadline."""

import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpcore

from darkroom.storage.addresses import AddressCheck, Resolver
from darkroom.storage.errors import InputAddressForbidden, InputUnreachable


@dataclass(frozen=True)
class Deadline:
    """A moment of the monotonic clock that no read, write or connection outlives."""

    at: float

    def left(self) -> float:
        """Seconds until then. Raises httpcore.ReadTimeout when there are none."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout
        return left


class PinnedBackend(httpcore.NetworkBackend):
    """httpcore's network, with one look-up and one check between a name and its connection."""

    def __init__(self, deadline: Deadline, resolve: Resolver, allowed: AddressCheck) -> None:
        self._deadline, self._resolve, self._allowed = deadline, resolve, allowed
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002  the deadline counts
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """To the first address of `host` that answers. Raises InputAddressForbidden when one of them is not allowed."""
        failure: Exception = InputUnreachable(f"{host} has no address")
        addresses = self._addresses(host)
        for tried, address in enumerate(addresses):
            # An even share of the time, so that one dead address does not use up that of the others.
            share = self._deadline.left() / (len(addresses) - tried)
            try:
                stream = self._backend.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return DeadlineStream(stream, self._deadline)
        raise failure

    def _addresses(self, host: str) -> list[str]:
        found = self._resolve(host, self._deadline.left())
        for address in found:
            if not self._allowed(address):
                msg = f"{host} is at {address}, which is not a public address"
                raise InputAddressForbidden(msg)
        return [str(address) for address in found]


class DeadlineStream(httpcore.NetworkStream):
    """A connection each of whose calls gets what is left of the time, however slowly bytes drip in."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, self._deadline.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, self._deadline.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._deadline.left())
        return DeadlineStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
