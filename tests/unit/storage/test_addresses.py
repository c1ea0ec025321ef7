"""Which addresses are public. Python's own `is_global` is wrong about several of them."""

import ipaddress
import socket
import threading

import pytest

from darkroom.storage.addresses import is_public, resolve
from darkroom.storage.errors import InputUnreachable

PUBLIC = "8.8.8.8 1.1.1.1 172.32.0.1 192.167.255.255 2606:4700::1111 2a00:1450::1 2001:4860:4860::8888"
FORBIDDEN = {
    "this host": "0.0.0.0 127.0.0.1 127.255.255.255 :: ::1",
    "private": "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 fc00::1 fd12::1",
    "link": "169.254.169.254 fe80::1 fe80::1%eth0 fec0::1",
    "multicast": "224.0.0.1 239.255.255.255 ff02::1 ff0e::1",
    "broadcast, reserved": "255.255.255.255 240.0.0.1 4000::1 5f00::1",
    "documentation, tests": "192.0.2.1 198.51.100.1 203.0.113.1 198.18.0.1 2001:db8::1 3fff::1 100::1",
    "IPv4 in IPv6": "::ffff:8.8.8.8 ::ffff:127.0.0.1 ::8.8.8.8 ::127.0.0.1 ::ffff:0:8.8.8.8",
    "tunnels": "64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::1 2002:7f00:1:: 2002:808:808:: 2001:0:7f00:1:: 192.88.99.1",
    "protocols": "192.0.0.1 192.0.0.8 192.0.0.170 2001:2::1 2001:10::1",
}


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", [address for group in FORBIDDEN.values() for address in group.split()])
def test_forbidden(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


def test_resolve() -> None:
    assert ipaddress.ip_address("127.0.0.1") in resolve("localhost", 5)
    assert resolve("8.8.8.8", 5) == [ipaddress.ip_address("8.8.8.8")]
    assert resolve("::1", 5) == [ipaddress.ip_address("::1")]


@pytest.mark.parametrize("name", ["nobody.invalid", "a\0b", "x" * 300, ""])
def test_resolve_nothing(name: str) -> None:
    with pytest.raises(InputUnreachable):
        assert resolve(name, 5) == []


def test_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's look-up cannot be interrupted; the caller goes on all the same."""
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait() and [])
    with pytest.raises(InputUnreachable, match="not found in"):
        resolve("slow.test", 0.05)
    release.set()
